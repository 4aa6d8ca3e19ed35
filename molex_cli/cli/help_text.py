"""What --help prints of any command: usage, its settings and flags with types, defaults and sentences, examples."""

import argparse
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from molex_cli.config.reference import Section, Setting

WIDEST = 120
"""Columns of a text that is read with ease."""
TYPES = {"int": "whole number", "float": "number", "_finite": "number", "expanded": "path"}


def width() -> int:
    """Return the columns to fill."""
    return max(40, min(shutil.get_terminal_size().columns, WIDEST))


def wrapped(text: str, indent: int = 0, hanging: int | None = None) -> str:
    """Return a text in lines that begin so far from the left, all but the first so far if that is given."""
    rest = " " * (indent if hanging is None else hanging)
    return textwrap.fill(text, width(), initial_indent=" " * indent, subsequent_indent=rest, break_on_hyphens=False)


def setting(each: Setting) -> str:
    """Return a setting as it is typed, what it takes, and its sentence."""
    return _entry(f"{each.key}={each.example or each.value}", f"({each.takes})", each.sentence)


def section(each: Section) -> str:
    """Return a section under its heading."""
    heading = wrapped(f"{each.key}: {each.sentence}" if each.key else "of the run itself", 0, 2)
    return "\n".join([heading, *map(setting, each.settings)])


def headed(each: Section) -> str:
    """Return the entry of a section whose settings are not shown."""
    return _entry(f"{each.key}=NAME, {each.key}.KEY=VALUE", "", each.sentence)


def part(found: Sequence[Section], name: str) -> list[str]:
    """Return the section of a name with those in it, or the one setting; nothing where there is none."""
    inside = [section(each) for each in found if each.key == name or each.key.startswith(f"{name}.")]
    return inside or [setting(each) for some in found for each in some.settings if each.key == name]


def flags(actions: Iterable[argparse.Action]) -> str:
    """Return the flags and other arguments of a command."""
    return "\n".join(
        _entry(flag_name(each), "; ".join(flag_takes(each)), each.help or "")
        for each in actions
        if each.help is not argparse.SUPPRESS
    )


def examples(lines: Sequence[str]) -> str:
    """Return the examples, each in a line that can be copied."""
    return "\n".join(["examples", *(f"  {line}" for line in lines)])


def flag_name(action: argparse.Action) -> str:
    """Return a flag as it is typed, short and long; an argument by its name."""
    return ", ".join(action.option_strings) or str(action.metavar or action.dest)


def flag_takes(action: argparse.Action) -> Iterator[str]:
    """Yield what a flag takes, and what it is without it."""
    if action.nargs != 0:
        kind = TYPES.get(getattr(action.type, "__name__", ""), "text")
        yield ", ".join(map(str, action.choices)) if action.choices is not None else kind
        if action.nargs in ("+", "*"):
            yield "one or more" if action.nargs == "+" else "any number"
    if action.required and action.option_strings:
        yield "required"
    is_told = "default" in (action.help or "")
    if not is_told and action.nargs != 0 and action.default not in (None, [], "", argparse.SUPPRESS):
        yield f"default {_shown(action.default)}"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _entry(name: str, about: str, sentence: str) -> str:
    head = wrapped(f"{name}  ({about})" if about and not about.startswith("(") else f"{name}  {about}".rstrip(), 2, 6)
    return f"{head}\n{wrapped(sentence, 6)}" if sentence else head
