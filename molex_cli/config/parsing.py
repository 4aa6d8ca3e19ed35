"""Overrides as they are typed: what can be read, what each sets, and every value that it stands for."""

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, QuotedString
from hydra.errors import HydraException

from molex_cli.config.command_line import options

HOME = re.compile(r"(?<=[=,\[:])~[^,\]}\"']*")  # a value that begins with the home folder


def parsed(overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
    """Return the overrides that can be read, and what is wrong with the others."""
    parser, found, problems = OverridesParser.create(), [], []
    for text in overrides:
        try:
            if "=" not in text and not text.startswith("~"):
                problems.append(f"an argument must be key=value, got {text}")
            else:
                found += parser.parse_overrides([home_quoted(text)])
        except HydraException as error:
            reason = str(error).splitlines()[0]
            problems.append(
                f"an argument must be key=value with quotes around special characters, got {text} ({reason})"
            )
    return found, problems


def home_quoted(text: str) -> str:
    """Return an override with quotes around values that begin with `~`, for which Hydra's grammar has no place."""
    return HOME.sub(r'"\g<0>"', text)


def key_of(text: str) -> str:
    """Return the key of an override."""
    return text.partition("=")[0].lstrip("+~")


def is_hydra(key: str) -> bool:
    """Return whether a key is one of Hydra's own."""
    return key.split(".")[0].split("/")[0] == "hydra"


def values_of(override: Override) -> list[Any]:
    """Return every value that an override stands for; of an interval, from which an optimiser draws, both ends."""
    given = override.value()
    if isinstance(given, IntervalSweep):
        return [given.start, given.end]
    if isinstance(given, Glob):
        return given.filter(options(override.key_or_group))
    if override.is_sweep_override():
        return [_plain(value) for value in override.sweep_iterator()]
    return [given]


def choices_of(override: Override) -> list[str]:
    """Return the names of the files that the override of a group stands for."""
    return [as_text(value) for value in values_of(override)]


def as_text(value: Any) -> str:
    """Return a value as it is typed."""
    return "null" if value is None else str(value)


def one_line(error: Exception) -> str:
    """Return the message of a Hydra or OmegaConf error in one line."""
    key = getattr(error, "full_key", None)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return (f"{key}: " if key else "") + " ".join(lines)


def _plain(value: Any) -> Any:
    """Return a value of a sweep without the quotes that it was written in."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value.text if isinstance(value, QuotedString) else value
