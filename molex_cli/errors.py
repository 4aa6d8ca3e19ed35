"""The user's mistakes, one class a kind; each message is one line: thing, rule, value, way out."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class MolexError(Exception):
    """A mistake the user can mend; shown without a traceback, exit code 2."""


class ConfigError(MolexError):
    """Settings that cannot be run; carries every problem found, one a line."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(MolexError):
    """Rows that are missing or cannot be read."""


class ModelError(MolexError):
    """A backbone that cannot be loaded."""


class TaskError(MolexError):
    """A task that this model cannot do, or that lacks something an answer mode needs."""


class MethodError(MolexError):
    """A method that does not fit the backbone it is put into."""


class MetricError(MolexError):
    """A metric of somebody else's that fails on predictions, or returns no score of them."""


class CheckpointError(MolexError):
    """An adapter file that is damaged, foreign or does not fit."""


class RecordError(MolexError):
    """A run's folder or record that cannot be written or read."""


class DiskError(RecordError):
    """A disk that is full, read-only or broken: no fault of what was running, which goes on when that is mended."""


class TrainingError(MolexError):
    """A training that cannot continue."""


class DivergedError(TrainingError):
    """A training whose loss or gradient is not finite: a result of its settings."""


def require_own_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise ConfigError where what registers itself has the name of another: it would take its place unseen."""
    if name in known:
        raise ConfigError(f"{kind} must have a name of its own, got a second {name}; rename one of them")


def all_of(attempts: Mapping[K, Callable[[], V]]) -> dict[K, V]:
    """Return the result of every attempt; raise with the lines of all that fail."""
    found: dict[K, V] = {}
    failed: list[MolexError] = []
    for key, attempt in attempts.items():
        try:
            found[key] = attempt()
        except MolexError as error:
            failed.append(error)
    lines = list(dict.fromkeys(line for error in failed for line in str(error).splitlines()))
    if len(lines) > 1:
        raise ConfigError(lines) from failed[0]
    if failed:
        raise failed[0]
    return found


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a hint that names the choice nearest to `name`, or all of them."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    shown = ", ".join(choices[:24]) + (", ..." if len(choices) > 24 else "")
    return f"choose from {shown}" if choices else "there is nothing to choose from"


def reason_of(error: Exception) -> str:
    """Return what a library says of an error, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def shortened(message: str, most: int = 2000) -> str:
    """Return a message without its middle if a value in it is so long that nobody would read on."""
    return message if len(message) <= most else f"{message[: most // 2]} ... {message[-most // 2 :]}"
