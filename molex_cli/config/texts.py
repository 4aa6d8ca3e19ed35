"""Settings that are texts: a value that YAML or Hydra reads as something else is refused, not turned into text.

OmegaConf makes "False" of `no`, "1000.0" of `1e3` and "750" of `12:30` without a word.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import KeyValidationError, OmegaConfBaseException, ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

WAY_OUT = "put it in quotes"


def yaml_problems(found: Iterable[tuple[str, Any]], files: Sequence[Node]) -> Iterator[str]:
    """Yield a line for each setting whose text YAML read as another value; `found` has full keys and these values."""
    named: set[str] = set()
    for full_key, value in found:
        key, path = _path(full_key)
        if key in named or key.startswith("hydra."):
            continue
        written = _written(path, value, files)
        if _is_whole(value) and written in (None, str(value)):
            continue
        named.add(key)
        rule = "texts" if isinstance(path[-1], int) else "text"
        yield f"{key} must be {rule}, got {_said(written, value)}; {WAY_OUT}"


def composing_problem(error: Exception, files: Sequence[Node]) -> str | None:
    """Return what is wrong where settings cannot be composed because a text or a key is none, by Hydra's error."""
    cause = error.__context__
    if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
        return None
    key, path = _path(cause.full_key)
    if isinstance(cause, KeyValidationError):
        written = _written([*path[:-1], cause.key], cause.key, files)
        return f"{key.rpartition('.')[0]} must have texts as keys, got {_said(written, cause.key)}; {WAY_OUT}"
    if isinstance(cause, ValidationError) and cause.value is None and isinstance(cause.key, int):
        return f"{key} must be texts, got null; {WAY_OUT}"
    return None


def override_problem(key: str, value: Any, typed: str, declared: Any) -> str | None:
    """Return what is wrong with an override of a setting that is declared as text, or as texts, if anything is."""
    rule = "text" if declared is str else "texts" if str in get_args(declared)[-1:] else None
    for each in leaves(value) if rule else ():
        if isinstance(each, bool | int | float) and not (_is_whole(each) and str(each) in typed):
            kind = "a truth value" if isinstance(each, bool) else "a number"
            return f"{key} must be {rule}, got {typed} ({str(each).lower()} is {kind}); {WAY_OUT}"
    return None


def _said(written: str | None, value: Any) -> str:
    plain = OmegaConf.to_yaml([value]).removeprefix("- ").strip()
    return plain if written in (None, plain) else f"{written} (YAML's {plain})"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the single values in a value, keys too."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def _path(full_key: str) -> tuple[str, list[Any]]:
    """Return the key without the place in a list, and all its parts."""
    place = re.fullmatch(r"(.*)\[(\d+)\]", full_key)
    key = place[1] if place else full_key
    return key, [*key.split("."), *([int(place[2])] if place else [])]


def _written(path: Sequence[Any], value: Any, files: Sequence[Node]) -> str | None:
    """Return how a file writes a value of a key; None where none of the files does."""
    for file in reversed(files):
        for at, text in _scalars(file, ()):
            if list(at) == list(path[-len(at) :]) and text != "" and _read(text) == value:
                return text
    return None


def _read(text: str) -> Any:
    """Return what a text without quotes is by YAML; None for what is nothing by itself, as a variable."""
    try:
        return OmegaConf.create(f"value: {text}").value
    except (yaml.YAMLError, OmegaConfBaseException, ValueError):
        return None


def _scalars(node: Node, at: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield the keys that lead to each value without quotes, and its text; so too for a key that is no text by YAML."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.style is None and not key.tag.endswith((":str", ":merge")):
                yield (*at, _read(key.value)), key.value
            yield from _scalars(value, (*at, key.value))
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            yield from _scalars(value, (*at, index))
    elif isinstance(node, ScalarNode) and node.style is None:
        yield at, node.value
