"""All that can be set, as plain data for completion: choices of files, settings of every section and method."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from molex_cli.config import command_line, reference, schema
from molex_cli.methods.base import METHODS

Values = Mapping[str, Sequence[str]]
"""Settings by their keys, each with the values that it takes where these are a list."""


def catalogue(folders: Sequence[Path]) -> dict[str, Any]:
    """Return what can be set where the YAML files are in these folders."""
    methods = command_line.options("method", folders)
    return {
        "groups": {group: command_line.options(group, folders) for group in schema.GROUPS},
        "settings": _values(reference.sections(schema.Experiment), without="method"),
        "methods": {name: _values(reference.sections(cls, "method")) for name, cls in METHODS.items()},
        "kinds": {name: kind for name in methods if (kind := _kind(name, folders)) in METHODS},
        "default": _default(folders),
    }


def _values(found: Iterable[reference.Section], without: str = "") -> dict[str, list[str]]:
    return {
        each.key: list(each.choices) for some in found if not without or some.key != without for each in some.settings
    }


def _kind(name: str, folders: Sequence[Path], depth: int = 8) -> str:
    """Return the registered name of the settings that a method's file fills, through files that it begins with."""
    text = _text(f"method/{name}.yaml", folders)
    if found := re.search(r"/schema/method/([\w]+)@", text):
        return found[1]
    first = re.search(r"defaults:\s*(?:\[|\n\s*-)\s*(?:/method/)?([\w/]+)", text)
    return _kind(first[1], folders, depth - 1) if first and depth and first[1] != name else ""


def _default(folders: Sequence[Path]) -> str:
    """Return the method that is taken where none is chosen."""
    found = re.search(r"^\s*- method: (\S+)", _text("config.yaml", folders), re.MULTILINE)
    return found[1] if found else ""


def _text(name: str, folders: Sequence[Path]) -> str:
    found = next((path for folder in folders if (path := folder / name).is_file()), None)
    return found.read_text(encoding="utf-8", errors="replace") if found else ""
