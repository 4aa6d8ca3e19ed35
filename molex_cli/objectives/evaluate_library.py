"""Metrics of the library `evaluate`, which runs their scripts: of the hub, of its cache, or of a folder here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from molex_cli.config.task_metrics import REVISION, Named
from molex_cli.errors import ConfigError, MetricError, reason_of
from molex_cli.metrics.base import Metric
from molex_cli.metrics.own_files import DIGITS, digest_of, source_of
from molex_cli.models.hub import repositories

LOADED_WITH = ("config_name", REVISION)
"""Arguments of `evaluate.load`; all others are those of `compute`."""
ELSEWHERE = "or name a folder that holds its script: evaluate/PATH"


def loaded(metric: Metric, arguments: Mapping[str, Any]) -> Metric:
    """Return a metric of the library that computes; raise ConfigError where it cannot be had."""
    named = Named.of(metric.name)
    digest = digest_of(source_of(str(named.file))) if named.file else ""
    for_loading = {key: str(value) for key, value in arguments.items() if key in LOADED_WITH}
    module = _module(metric.name, digest, tuple(for_loading.items()))

    def function(predictions: Sequence[Any], references: Sequence[Any], **others: Any) -> Any:
        given = _as_declared(metric.name, module, references)
        return _chosen(named, module.compute(predictions=list(predictions), references=given, **others))

    source = str(named.file) if named.file else f"evaluate {_version()}, {named.path} of the hub"
    return replace(metric, function=function, source=source, digest=digest or str(module._hash)[:DIGITS])


@cache
def _module(name: str, digest: str, arguments: tuple[tuple[str, Any], ...]) -> Any:
    """Return a module of the library, of this text; the hub's is asked for only if that can be reached."""
    named = Named.of(name)
    online = named.file is None and repositories.go_offline_if_unreachable()
    import evaluate

    evaluate.config.HF_EVALUATE_OFFLINE = not online
    try:
        # In memory: in its cache two runs would wait for each other.
        return evaluate.load(str(named.file or named.path), keep_in_memory=True, **dict(arguments))
    except Exception as error:  # a script is anybody's code
        if named.file is None and not online and isinstance(error, OSError):
            reason = f"no connection to the hub and no copy in its cache; connect, {ELSEWHERE}"
        else:
            reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ConfigError(f"task.metrics must be metrics that evaluate can load, got {name}: {reason}") from error


def _as_declared(name: str, module: Any, references: Sequence[Any]) -> list[Any]:
    """Return references as the metric takes them: texts one by one where it takes no lists of them."""
    if not references or not isinstance(references[0], tuple | list):
        return list(references)
    options = module.features if isinstance(module.features, list) else [module.features]
    if not all(_is_single(option.get("references")) for option in options):
        return [list(some) for some in references]
    if several := next((some for some in references if len(some) > 1), None):
        raise MetricError(f"{name} must get one reference for each text, got {len(several)} for one; it takes no lists")
    return [some[0] for some in references]


def _is_single(feature: Any) -> bool:
    """Return whether a declared input is a text and no list of texts."""
    return getattr(feature, "dtype", None) == "string"


def _chosen(named: Named, found: Any) -> Any:
    """Return the number that is meant: that of the key, the one of the metric's own name, or the only one."""
    last = named.path.rstrip("/").rpartition("/")[2].removesuffix(".py")
    if not isinstance(found, dict):
        raise MetricError(f"{named.path} must return its scores by name, got a {type(found).__name__}")
    if (key := named.key or last) in found:
        return found[key]
    if len(found) == 1 and not named.key:
        return next(iter(found.values()))
    what = f"no {named.key}" if named.key else f"{len(found)} scores"
    keys = ", ".join(map(str, found))
    raise MetricError(
        f"evaluate/{named.path} must be one score, got {what}; choose evaluate/{named.path}@KEY of {keys}"
    )


def _version() -> str:
    import evaluate

    return str(evaluate.__version__)
