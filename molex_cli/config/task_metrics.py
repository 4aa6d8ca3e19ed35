"""The metrics that a task names: molex's own, those of files of one's own, and those of the library `evaluate`."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from molex_cli.errors import ConfigError, nearest, require_own_name
from molex_cli.metrics.base import METRICS, ByExample, Metric, metric_named
from molex_cli.metrics.own_files import digest_of, metrics_in, source_of
from molex_cli.runtime.paths import expanded

if TYPE_CHECKING:
    from molex_cli.config.task import Task

LIBRARY = "evaluate/"
REVISION = "revision"
DIRECTIONS = ("higher_is_better", "lower_is_better")


class Named(NamedTuple):
    """What `evaluate/PATH@KEY` names."""

    path: str
    """On the hub, or of a folder or file here."""
    key: str
    """Of the number, where the metric returns several."""

    @classmethod
    def of(cls, name: str) -> "Named":
        """Return the parts of a metric's name."""
        path, _, key = name.removeprefix(LIBRARY).partition("@")
        return cls(path, key)

    @property
    def file(self) -> Path | None:
        """Return the script here that the library would run; None for one of the hub."""
        path = expanded(self.path)
        inside = path / f"{path.name}.py"
        return path if path.suffix == ".py" else inside if inside.is_file() else None


def metric_of(task: "Task", name: str) -> Metric:
    """Return a metric of a task; one of `evaluate` computes nothing before `objectives.outside` loads it."""
    if name in METRICS:
        return METRICS[name]
    if name.startswith(LIBRARY):
        return _of_library(task, name)
    own = own_metrics(task.metric_files)
    return own[name] if name in own else metric_named(name)


def own_metrics(files: Sequence[str]) -> dict[str, Metric]:
    """Return the metrics of some files by name; raise ConfigError where two have the same."""
    found: dict[str, Metric] = {}
    for file in files:
        for name, metric in metrics_in(file).items():
            require_own_name("a metric", name, found)
            found[name] = metric
    return found


def _of_library(task: "Task", name: str) -> Metric:
    """Return what is known of a metric of the library: it says itself neither what is better nor its range."""
    by_example = ByExample.no if task.kind.name == "generation" else ByExample.jackknife
    return Metric(
        name=name,
        function=_not_loaded,
        kinds=(task.kind.name,),
        higher_is_better=name in task.higher_is_better,
        low=-math.inf,
        high=math.inf,
        by_example=by_example,
        source=name,
    )


def _not_loaded(predictions: Sequence[object], references: Sequence[object]) -> float:
    raise AssertionError("objectives.outside loads it first")


def outside(task: "Task") -> list[str]:
    """Return the names of a task's metrics that are none of molex's own."""
    return [name for name in task.metrics if name not in METRICS]


def inside(task: "Task") -> list[str]:
    """Return the names of those that are."""
    return [name for name in task.metrics if name in METRICS]


def arguments_of(task: "Task", name: str) -> dict[str, Any]:
    """Return the arguments of a metric that is none of molex's own."""
    shared = {key: value for key, value in task.metric_arguments.items() if key not in task.metrics}
    own = task.metric_arguments.get(name, {})
    return {**shared, **own} if isinstance(own, dict) else shared


def texts(task: "Task") -> dict[str, str]:
    """Return the digest of the file of each metric that is in a file here."""
    found: dict[str, str] = {}
    for name in outside(task):
        if name.startswith(LIBRARY):
            file = Named.of(name).file
            found |= {name: digest_of(source_of(str(file)))} if file else {}
        else:
            found[name] = metric_of(task, name).digest
    return found


def problems(task: "Task") -> Iterator[str]:
    """Yield what is wrong with the names and their settings; no file is run."""
    if not task.metrics:
        yield ".metrics must name at least one metric, got []"
    fitting = [name for name, metric in METRICS.items() if task.kind.name in metric.kinds]
    for name in task.metrics:
        if name.startswith(LIBRARY):
            yield from _library_problems(task, name)
        elif name not in fitting and (name in METRICS or not task.metric_files):
            yield f".metrics must be metrics of kind={task.kind.name}, got {name}; {nearest(name, fitting)}"
    yield from _setting_problems(task)


def _setting_problems(task: "Task") -> Iterator[str]:
    from_library = [name for name in task.metrics if name.startswith(LIBRARY)]
    for setting in DIRECTIONS:
        for name in getattr(task, setting):
            if name not in from_library:
                hint = nearest(name, from_library)
                yield f".{setting} must be metrics of evaluate in task.metrics, got {name}; {hint}"
    if task.metric_arguments and not outside(task):
        yield f".metric_arguments must go with metrics that take some, got {dict(task.metric_arguments)} alone"
    for name in task.metrics:
        if not isinstance(own := task.metric_arguments.get(name, {}), dict):
            yield f".metric_arguments must have a section under the name of a metric, got {own!r} for {name}"


def _library_problems(task: "Task", name: str) -> Iterator[str]:
    named = Named.of(name)
    if not named.path or "@" in named.key:
        yield f".metrics must name a metric of evaluate as evaluate/NAME or evaluate/NAME@KEY, got {name}"
        return
    if (name in task.higher_is_better) is (name in task.lower_is_better):
        yield (
            f".higher_is_better or task.lower_is_better must have {name}, got it in "
            f"{'both' if name in task.lower_is_better else 'neither'}: evaluate does not say which is better; set "
            f"task.higher_is_better=[{name}] or task.lower_is_better=[{name}]"
        )


def library_file_problems(task: "Task", name: str) -> Iterator[str]:
    """Yield why a metric of the library must not be loaded: what names no script here may be anybody's on the hub."""
    named = Named.of(name)
    if named.file is not None:
        return
    if named.path.startswith((".", "/", "~")) or named.path.count("/") > 1:
        script = Path(named.path, f"{Path(named.path).name}.py")
        yield f".metrics must name a script of evaluate or its folder, got {named.path}; there is no {script}"
    elif "/" in named.path and REVISION not in arguments_of(task, name):
        yield (
            f".metric_arguments.{REVISION} must pin the code of {name}, which somebody put on the hub, got none (and "
            "no script here is called so); read it, then set the commit that you read"
        )


def file_problems(task: "Task") -> Iterator[str]:
    """Yield what is wrong with the files, which are run for it; a saved run opens without them."""
    from_library = [name for name in task.metrics if name.startswith(LIBRARY)]
    yield from (problem for name in from_library for problem in library_file_problems(task, name))
    try:
        own = own_metrics(task.metric_files)
        for name in from_library:
            if file := Named.of(name).file:
                source_of(str(file))
    except ConfigError as error:
        yield from (f".metrics must be computed, got: {problem}" for problem in error.problems)
        return
    for name in outside(task):
        if name not in own and not name.startswith(LIBRARY):
            yield f".metrics must be metrics that there are, got {name}; {nearest(name, [*own, *METRICS])}"
        elif name in own and task.kind.name not in own[name].kinds:
            yield f".metrics must be metrics of kind={task.kind.name}, got {name} of {own[name].source}"
    for named in task.metric_files:
        held = [name for name, metric in own.items() if metric.source == named]
        if not set(held) & set(task.metrics):
            yield f".metric_files must be files of metrics in task.metrics, got {named}; add {', '.join(held)} there"
