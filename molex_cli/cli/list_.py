"""`molex list`: what can be chosen."""

from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.cli.parser import Parser
from molex_cli.config import choices, command_line
from molex_cli.errors import ConfigError, MolexError, nearest

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment

SUMMARY = "show tasks (sizes, metrics, where their data is looked for), methods, models"
GROUPS = {"tasks": "task", "methods": "method", "models": "model"}


def main(argv: list[str]) -> int:
    """Print a table of tasks, methods or models."""
    parser = Parser(
        "list",
        "What there is: tasks (sizes, metrics, where the data is looked for), methods or models.",
        examples=("molex list tasks data_dir=DIR", "molex list methods", "molex list models"),
    )
    parser.add_argument("what", nargs="?", default="tasks", metavar="tasks|methods|models", help="what is listed")
    parser.add_overrides(reads=("data_dir", *GROUPS.values()))
    options = parser.parse(argv)
    if options.what not in GROUPS:
        raise ConfigError(
            f"molex list must be given {', '.join(GROUPS)}, got {options.what}; {nearest(options.what, GROUPS)}"
        )
    _print(options.what, options.overrides)
    return 0


def _print(what: str, given: list[str]) -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import show

    rows = {"tasks": _task, "methods": _method, "models": _model}
    heads = {
        "tasks": ("task", "kind", "metrics", "train", "validation", "test", "data"),
        "methods": ("method", "in tables", "learning rate"),
        "models": ("model", "from", "learning rate x"),
    }
    table = Table(*heads[what], box=None, pad_edge=False)
    group = GROUPS[what]
    names = [name for name in command_line.options(group) if (group, name) != ("task", "files")]
    for name, found in choices.experiments(group, names, given):
        try:
            if isinstance(found, MolexError):
                raise found
            table.add_row(name, *rows[what](found))
        except MolexError as error:
            table.add_row(name, f"cannot be composed: {error}")
    show(table)


def _task(experiment: "Experiment") -> tuple[str, ...]:
    """Return kind, metrics, rows of each split where its file is at hand, and where the data is looked for."""
    from molex_cli.data.tables import num_rows

    task = experiment.task
    sizes = [num_rows(task, split, experiment.data_dir) for split in ("train", "validation", "test")]
    counts = ["-" if size is None else f"{size:,}" for size in sizes]
    return task.kind.name, ", ".join(task.metrics), *counts, _source(experiment)


def _source(experiment: "Experiment") -> str:
    task = experiment.task
    if task.builtin:
        return "built in"
    hub = f"hub {task.hub.path}" + (f"/{task.hub.subset}" if task.hub.subset else "")
    if experiment.data_dir is None or not task.official.train:
        return hub
    path = Path(experiment.data_dir) / task.official.train
    return f"{path.parent}" if path.is_file() else f"{path.parent} (not there)"


def _method(experiment: "Experiment") -> tuple[str, ...]:
    return experiment.method.display_name, f"{experiment.method.learning_rate:g}"


def _model(experiment: "Experiment") -> tuple[str, ...]:
    model = experiment.model
    source = model.hub or model.folder or model.package or "random weights"
    return str(source), f"{model.learning_rate_scale:g}"
