"""What there is to set, read off the dataclasses: each key with its type, choices, value and sentence."""

import ast
import dataclasses
import inspect
import json
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


@dataclass(frozen=True)
class Setting:
    """One setting, as --help and completion have it."""

    key: str
    """With the sections before it."""
    kind: str
    """Its type in words."""
    choices: tuple[str, ...]
    """What it takes, where that is a list."""
    value: str
    """Its default, as it is typed; empty where it must be given."""
    sentence: str
    example: str = ""
    """What --help shows in the place of the default: a word for what is typed."""

    @property
    def takes(self) -> str:
        """Return its choices, or its type in words."""
        return self.kind if not self.choices else f"{', '.join(self.choices)}{self.kind.partition(' or null')[1]}"


@dataclass(frozen=True)
class Section:
    """Some settings that belong together."""

    key: str
    sentence: str
    settings: tuple[Setting, ...]


def sections(settings: Any, key: str = "", sentence: str = "") -> Iterator[Section]:
    """Yield the settings of a dataclass or of an instance, whose values are shown, then those of its sections."""
    cls = settings if isinstance(settings, type) else type(settings)
    hints, told = get_type_hints(cls), sentences(cls)
    inner: list[tuple[str, Any, str]] = []
    own = []
    for each in dataclasses.fields(cls):
        name, value = f"{key}.{each.name}" if key else each.name, _value(settings, each)
        if dataclasses.is_dataclass(value) or dataclasses.is_dataclass(hints[each.name]):
            section = value if dataclasses.is_dataclass(value) else hints[each.name]
            inner.append((name, section, told.get(each.name, "")))
        else:
            own.append(_setting(name, each, hints[each.name], value, told.get(each.name, "")))
    yield Section(key, sentence or one_line(cls.__doc__), tuple(own))
    for part in inner:
        yield from sections(part[1], part[0], part[2])


@cache
def sentences(cls: type) -> Mapping[str, str]:
    """Return the text under each field of a dataclass; that of its own class goes before those of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _written_under(base)
    return found


def one_line(text: str | None) -> str:
    """Return a docstring's first paragraph in one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


@cache
def _written_under(cls: type) -> Mapping[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: one_line(str(below.value.value))
        for field, below in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }


def _value(settings: Any, field: Any) -> Any:
    if not isinstance(settings, type):
        return getattr(settings, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _setting(key: str, field: Any, hint: Any, value: Any, sentence: str) -> Setting:
    options = [each for each in get_args(hint) if each is not type(None)] if _is_union(hint) else [hint]
    kind = options[0] if len(options) == 1 else Any
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices, words, sentence = [each.name for each in kind], "choice", sentence or one_line(kind.__doc__)
    else:
        choices, words = [str(each) for each in field.metadata.get("choices", ())], _words(kind)
    if kind is bool:
        choices = ["true", "false"]
    optional = " or null" if _is_union(hint) and len(options) < len(get_args(hint)) else ""
    example = field.metadata.get("shown", "")
    return Setting(key, words + optional, tuple(choices), typed(value), sentence, example)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _words(kind: Any) -> str:
    inner = get_args(kind)
    if get_origin(kind) is list:
        return f"list of {PLURALS.get(inner[0], 'values')}"
    if get_origin(kind) is dict:
        return "keys with values"
    return WORDS.get(kind, "value")


def typed(value: Any) -> str:
    """Return a value as a command line has it, without the shell's quotes."""
    if value is None:
        return "null"
    if value is dataclasses.MISSING or value == "???":
        return ""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {typed(each)}" for name, each in value.items()) + "}"
    return json.dumps(value) if value == "" else str(value)
