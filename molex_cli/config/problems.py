"""What is wrong with one override: a file that is not there, a setting that is none, a value of the wrong type."""

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from molex_cli.config import other_names
from molex_cli.config.command_line import CommandLine, options
from molex_cli.config.hydra_internals import child, declared, interpolation_problem, is_section
from molex_cli.config.schema import GROUPS
from molex_cli.config.sweeps import choices_of, values_of
from molex_cli.config.texts import leaves, override_problem
from molex_cli.errors import nearest

TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
PLURALS = {int: "whole numbers", float: "numbers", str: "text"}


def form_problems(override: Override) -> Iterator[str]:
    """Yield what no override may have."""
    for text in (each for value in values_of(override) for each in leaves(value)):
        if isinstance(text, str) and (problem := interpolation_problem(text)):
            yield f"{override.key_or_group} must have a whole ${{KEY}} or none, got {text!r} ({problem})"
    if override.package is not None:
        key = override.key_or_group
        yield f"{key} must stay where it is, got {key}@{override.package}; leave @{override.package} out"


def group_problems(override: Override, line: CommandLine) -> list[str]:
    """Return what is wrong with the choice of a group's file."""
    group = override.key_or_group
    return [problem for value in choices_of(override) for problem in _file_problems(group, value, line)]


def _file_problems(group: str, value: str, line: CommandLine) -> Iterator[str]:
    choices = options(group, line.folders)
    if value not in choices and not (group == "experiment" and value == "null"):
        way_out = nearest(value, choices) + _of_the_hub(group)
        yield f"{group} must be one of the files in conf/{group}, got {value}; {way_out}"
    found = [path for folder in line.folders if (path := folder / group / f"{value}.yaml").is_file()]
    if len(found) > 1:
        yield f"{group}={value} must be one file, got {found[1]} behind {found[0]}, which is taken; rename yours"


def _of_the_hub(group: str) -> str:
    """Return the way to what has no file here."""
    if group != "model":
        return ""
    return "; or model=folder model.folder=DIR for a downloaded one, docs/adding.md says how to add one of the hub"


def value_problems(override: Override, config: DictConfig) -> Iterator[str]:
    """Yield what is wrong with a setting's key or values, tried on the composed settings."""
    key, node = override.key_or_group, _node(config, override.key_or_group)
    is_free = is_free_form(key, config)
    if node is None and not is_free:
        yield f"{key} is no setting; {_nearest_key(key, config)}"
    elif override.is_delete():
        yield f"{key} cannot be deleted; set it to null where it is optional"
    elif override.is_interval_sweep() and node is not None and declared(node)[0] is int:
        text = (override.input_line or "").partition("=")[2]
        if not all(isinstance(value, int) for value in values_of(override)):
            yield f"{key} must be a whole number, got {text}; write {key}=int({text})"
    elif node is not None and not is_free:
        yield from (_type_problem(key, value, node) for value in values_of(override) if not _fits(key, value, config))
    if not override.is_delete():
        typed = (override.input_line or "").partition("=")[2]
        wanted = _declared(key, node, config)
        problems = (override_problem(key, value, typed, wanted) for value in values_of(override))
        yield from (problem for problem in problems if problem)


def is_free_form(key: str, config: DictConfig) -> bool:
    """Return whether the key lies in a dictionary that takes any key, as model.config does."""
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else None
    return isinstance(node, DictConfig) and OmegaConf.get_type(node) is dict


def _declared(key: str, node: Node | None, config: DictConfig) -> Any:
    """Return the type that the schema gives a setting, or a new key of a dictionary."""
    if node is not None and not is_free_form(key, config):
        return declared(node)[0]
    parent = _node(config, key.rpartition(".")[0])
    types = get_args(declared(parent)[0]) if parent is not None else ()
    return types[-1] if types else None


def _fits(key: str, value: Any, config: DictConfig) -> bool:
    trial = OmegaConf.merge(config)  # a copy
    assert isinstance(trial, DictConfig)
    try:
        OmegaConf.update(trial, key, value)
    except OmegaConfBaseException:
        return False
    return True


def _node(config: DictConfig, key: str) -> Node | None:
    """Return the node at the key; None where the schema has no such key."""
    current: Node | None = config
    for part in key.split("."):
        if not isinstance(current, DictConfig) or not is_section(current) or part not in current.keys():  # noqa: SIM118
            return None
        current = child(current, part)
    return current


def _nearest_key(key: str, config: DictConfig) -> str:
    """Return a hint: the setting with nearly this name, or all settings of the section."""
    keys = [*_leaf_keys(config), *GROUPS]
    if meant := other_names.today(key, keys) or other_names.nearly(key, keys):
        return f"did you mean {meant}?"
    section = key.rpartition(".")[0]
    inside = [name for name in keys if name.rpartition(".")[0] == section] if section else []
    shown = inside or [name for name in map(str, config.keys()) if name != "hydra"]
    return f"choose from {', '.join(shown)}"


def _leaf_keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in map(str, config.keys()):
        if not prefix and name == "hydra":
            continue
        node = child(config, name)
        if isinstance(node, DictConfig) and is_section(node):
            keys += _leaf_keys(node, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _type_problem(key: str, value: Any, node: Node) -> str:
    wanted, is_optional = declared(node)
    rule, hint = _rule(key, value, node, wanted)
    optional = " or null" if is_optional else ""
    return f"{key} must be {rule}{optional}, got {'null' if value is None else repr(value)}{hint}"


def _rule(key: str, value: Any, node: Node, wanted: Any) -> tuple[str, str]:
    """Return what the value of a key must be, and a hint at what was meant."""
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        names = [member.name for member in wanted]
        renamed = other_names.VALUES.get(key, {}).get(str(value))
        hint = f"; did you mean {renamed}?" if renamed else f"; {nearest(str(value), names)}"
        return f"one of {', '.join(names)}", hint
    if isinstance(node, ListConfig):
        inner = get_args(wanted)
        hint = f"; write {key}=[{value}]" if isinstance(value, str | int | float) else ""
        return f"a list of {PLURALS.get(inner[0], 'values') if inner else 'values'}", hint
    if isinstance(wanted, type) and wanted in TYPES:
        return TYPES[wanted], ""
    if isinstance(node, DictConfig):
        return "a section", f"; set one of its keys, such as {key}.{next(iter(node.keys()), 'key')!s}"
    return "of its declared type", ""
