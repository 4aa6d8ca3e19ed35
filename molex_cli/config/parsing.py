"""Overrides as they are typed: what can be read, and what each sets."""

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

QUOTED = r"""(?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
HOME = re.compile(QUOTED + r"""|(?<=[=,\[:(])(?P<before>\s*)(?P<value>~(?:\([^()]*\)|[^,\]})"'])*)""")
"""What is in quotes already, or a value that begins with the home folder, whose name may have a pair of parentheses."""


def parsed(overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
    """Return the overrides that can be read, and what is wrong with the others."""
    parser, found, problems = OverridesParser.create(), [], []
    for text in overrides:
        try:
            if "=" not in text and not text.startswith("~"):
                problems.append(f"an argument must be key=value, got {text}")
            else:
                found += parser.parse_overrides([home_quoted(text)])
        except (HydraException, ValueError, RecursionError):
            shown = text if text.isprintable() else ascii(text)
            problems.append(
                f"an argument must be key=value with quotes around special characters, got {shown}{_quoted(text)}"
            )
    return found, problems


def _quoted(text: str) -> str:
    """Return a hint at how a shell passes a plain value with quotes around it."""
    key, _, value = text.partition("=")
    is_plain = value.isprintable() and not set(value) & set("\"'\\$[]{}()")
    return f"; write '{key}=\"{value}\"'" if value and is_plain else ""


def home_quoted(text: str) -> str:
    """Return an override with quotes around values that begin with `~`, for which Hydra's grammar has no place."""
    return HOME.sub(lambda found: found["quoted"] or f'{found["before"]}"{found["value"].rstrip()}"', text)


def key_of(text: str) -> str:
    """Return the key of an override."""
    return text.partition("=")[0].lstrip("+~")


def is_hydra(key: str) -> bool:
    """Return whether a key is one of Hydra's own."""
    return key.split(".")[0].split("/")[0] == "hydra"


def one_line(error: Exception) -> str:
    """Return the message of a Hydra or OmegaConf error in one line, with its reason where it gives none itself."""
    if not str(error).strip():
        cause = error.__cause__ or error.__context__
        return one_line(cause) if isinstance(cause, Exception) else type(error).__name__
    key = getattr(error, "full_key", None)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    reason = (
        f" ({one_line(error.__cause__)})"
        if " ".join(lines).startswith("Error merging override") and isinstance(error.__cause__, Exception)
        else ""
    )
    return (f"{key}: " if key else "") + " ".join(lines) + reason
