"""Metrics of one's own: a Python file with functions under `@metric`, run where a task names it."""

import hashlib
import math
import numbers
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from types import ModuleType
from typing import Any

from molex_cli.errors import ConfigError, MetricError, MolexError
from molex_cli.metrics.base import METRICS, Metric
from molex_cli.runtime.paths import expanded, require_file

DIGITS = 16  # of a digest


def metrics_in(file: str) -> dict[str, Metric]:
    """Return the metrics of a file by name; raise ConfigError for a file that has none or cannot be run."""
    text = source_of(file)
    return dict(_run(file, text))


def source_of(file: str) -> bytes:
    """Return what a file of Python holds; raise ConfigError for one that is none or cannot be read."""
    try:
        return require_file(expanded(file)).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"a metric's file must be one of Python, got {file} ({error.strerror}); it is looked for from the working "
            "directory"
        ) from None


def digest_of(text: bytes) -> str:
    """Return what tells one text of a metric from another."""
    return hashlib.sha256(text).hexdigest()[:DIGITS]


def checked(metric: Metric, arguments: Mapping[str, Any]) -> Metric:
    """Return a metric with its arguments, of which each fault is a MetricError."""
    return replace(metric, function=partial(_checked, metric, dict(arguments)))


@cache
def _run(file: str, text: bytes) -> dict[str, Metric]:
    """Run a file and return what it registers, which is its own: no other task sees it."""
    digest, known = digest_of(text), set(METRICS)
    module = ModuleType(f"molex_metrics_{digest}")
    module.__file__ = str(expanded(file))
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(text, module.__file__, "exec"), vars(module))
    except MolexError as error:
        raise ConfigError(f"{file}: {error}") from None
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}, must be Python, got: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{file}{_line(error, module.__file__)} must run, got {_told(error)}") from None
    finally:
        added = {name: METRICS.pop(name) for name in list(METRICS) if name not in known}
    if not added:
        raise ConfigError(f"{file} must have a function under @metric(KIND), got none; docs/adding.md has an example")
    if strange := next((name for name, each in added.items() if each.of_one_class), ""):
        raise ConfigError(
            f"{file}: {strange} must not be of_one_class, which is for molex's own; let it take an argument"
        )
    return {name: replace(each, source=file, digest=digest) for name, each in added.items()}


def _checked(
    metric: Metric, arguments: Mapping[str, Any], predictions: Sequence[Any], references: Sequence[Any]
) -> float | list[float]:
    try:
        found = metric.function(predictions, references, **arguments)
    except MetricError:
        raise
    except Exception as error:
        where = f" ({metric.source}{line})" if (line := _line(error, str(expanded(metric.source)))) else ""
        raise MetricError(f"{metric.name} must score predictions, got {_told(error)}{where}") from error
    if _is_number(found):
        return _number(metric, found)
    values = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(values, list | tuple) or not all(map(_is_number, values)):
        raise MetricError(f"{metric.name} must return a number, or one for each example, got {_kind(found)}")
    if len(values) != len(references):
        rows = f"{len(values)} for {len(references)} examples"
        raise MetricError(f"{metric.name} must return a number, or one for each example, got {rows}")
    return [_number(metric, each) for each in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) or (hasattr(value, "item") and getattr(value, "ndim", 1) == 0)


def _number(metric: Metric, value: Any) -> float:
    found = float(value)
    if math.isinf(found):
        raise MetricError(f"{metric.name} must return finite numbers, or NaN where it is undefined, got {found}")
    return found


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _told(error: BaseException) -> str:
    reason = " ".join(str(error).split())
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _line(error: BaseException, file: str) -> str:
    """Return the line of a file in which an error arose; nothing where it did not."""
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {own[-1]}" if own else ""
