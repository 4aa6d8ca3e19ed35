"""What every setting is held to before a rule of its own: its declared kind, finite numbers of 64 bits, text."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, get_origin, get_type_hints

KINDS = {list: "a list", dict: "a section"}
LARGEST = 2**63


def unusable(settings: Any, key: str = "") -> Iterator[str]:
    """Yield what no rule could be checked on: a section that is none, a list in a list, a number out of bounds.

    A variable may stand for anything, so the declared kinds are held to here too.
    """
    declared = get_type_hints(type(settings))
    for each in dataclasses.fields(settings):
        name, value = f"{key}.{each.name}" if key else each.name, getattr(settings, each.name)
        kind = get_origin(declared[each.name]) or declared[each.name]
        if dataclasses.is_dataclass(value):
            yield from unusable(value, name)
        elif dataclasses.is_dataclass(kind) or (kind in KINDS and not isinstance(value, kind)):
            yield f"{name} must be {KINDS.get(kind, 'a section')}, got {value!r}; set its parts one by one"
        else:
            yield from _problems(value, name)


def _problems(value: Any, key: str) -> Iterator[str]:
    if dataclasses.is_dataclass(value):
        yield from unusable(value, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _problems(name, f"a key of {key}")
            yield from _problems(item, f"{key}.{name}")
    elif isinstance(value, list):
        yield from (problem for i, item in enumerate(value) for problem in _problems(item, f"{key}[{i}]"))
        if not key.startswith("model.config.") and any(isinstance(item, list | dict) for item in value):
            yield f"{key} must be a list of single values, got {value}; take the inner brackets away"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{key} must be a finite number, got {value}"
    elif isinstance(value, int) and not -LARGEST <= value < LARGEST:
        yield f"{key} must be a whole number of at most 63 bits, got one of {value.bit_length()}"
    elif isinstance(value, str) and (problem := text_problem(value)):
        yield f"{key} must be text, got {problem} in {value[:60]!a}"


def text_problem(text: str) -> str:
    """Return why a text cannot be written down in a file or a path; nothing where it can."""
    if "\0" in text:
        return "a NUL character"
    return "half of a character" if any("\ud800" <= each <= "\udfff" for each in text) else ""
