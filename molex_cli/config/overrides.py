"""The command line against the settings' schema: every mistake named at once, before Hydra runs.

Hydra stops at the first mistake, lets `+train.foo=1` pass and lists no choices of nested groups. Here the
groups are looked up in conf/, composed, and each key and value is tried on the typed result.
"""

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import product
from typing import Any, get_args

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from molex_cli.config import other_names, schema
from molex_cli.config.command_line import CommandLine, options
from molex_cli.config.run_id import Job
from molex_cli.errors import ConfigError, nearest

TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
PLURALS = {int: "whole numbers", float: "numbers", str: "text"}


def checked(line: CommandLine) -> schema.Experiment:
    """Return the (first) experiment of the command line and tidy its overrides; raise with every problem."""
    return jobs(line)[0].experiment


def jobs(line: CommandLine) -> list[Job]:
    """Return every job of the command line, the last sweep going fastest; raise with every problem."""
    schema.register()
    parsed, bad = _parsed(line.overrides)
    if line.multirun:
        parsed = _with_presets(parsed, line)
    else:
        for override in parsed:
            if override.is_sweep_override():
                _, _, value = (override.input_line or "").partition("=")
                bad.append(f"{override.key_or_group} must be one value, got {value}; add -m to sweep over several")
        parsed = [override for override in parsed if not override.is_sweep_override()]
    parsed = list({o.key_or_group: o for o in parsed}.values())  # the last one wins
    groups = [o for o in parsed if o.key_or_group in schema.GROUPS]
    unknown = {o.key_or_group for o in groups if list(_group_problems(o, line))}
    bad += [problem for override in groups for problem in _group_problems(override, line)]
    groups = [o for o in groups if o.key_or_group not in unknown]
    values = [o for o in parsed if o.key_or_group not in schema.GROUPS and not is_hydra(o.key_or_group)]
    values = [o for o in values if o.key_or_group.split(".")[0] not in unknown]
    composed = {
        combination: _composed(line, groups, combination)
        for combination in product(*(_choices(group) for group in groups))
    }
    for override in values:
        bad += [problem for config in composed.values() for problem in _misfits(override, config)]
    unfit = {o.key_or_group for o in values if any(list(_misfits(o, config)) for config in composed.values())}
    fitting = [o for o in parsed if o in groups or (o in values and o.key_or_group not in unfit and not o.is_delete())]
    found = list(_expanded(fitting, composed, bad))
    if bad:
        raise ConfigError(dict.fromkeys(bad))
    line.overrides = [_tidied(o, next(iter(composed.values()))) for o in parsed]
    return found


def hydra_settings(line: CommandLine, *, is_checked: bool = True) -> DictConfig:
    """Return Hydra's own part of the settings, with its launcher and sweeper, as the (first) job's groups make it."""
    parsed, _ = _parsed(line.overrides)
    chosen = [o for o in parsed if o.key_or_group in schema.GROUPS]
    # Hydra's settings may name ours, as the size of a pool does; before ours are checked only its own count.
    fixed = [o for o in parsed if o.key_or_group not in schema.GROUPS and not o.is_sweep_override()]
    own = [o.input_line or "" for o in fixed if is_checked or is_hydra(o.key_or_group)]
    return _composed(line, chosen, [_choices(group)[0] for group in chosen], own)


def is_hydra(key: str) -> bool:
    """Return whether a key is one of Hydra's own."""
    return key.split(".")[0].split("/")[0] == "hydra"


def _with_presets(parsed: list[Override], line: CommandLine) -> list[Override]:
    """Return the overrides with the sweeps before them that an experiment brings as hydra.sweeper.params."""
    if any(o.key_or_group in schema.GROUPS and list(_group_problems(o, line)) for o in parsed):
        return parsed
    params = OmegaConf.select(hydra_settings(line, is_checked=False), "hydra.sweeper.params") or {}
    given = {o.key_or_group for o in parsed}
    preset, bad = _parsed([f"{key}={_text(value)}" for key, value in params.items() if key not in given])
    if bad:
        raise ConfigError(bad)
    return [*preset, *parsed]


def _expanded(
    parsed: Sequence[Override], composed: Mapping[tuple[str, ...], DictConfig], bad: list[str]
) -> Iterator[Job]:
    """Yield the product of all values, in the order in which their keys stand in the command line."""
    for chosen in product(*([(o, value) for value in _values(o)] for o in parsed)):
        combination = tuple(_text(value) for o, value in chosen if o.key_or_group in schema.GROUPS)
        trial = copy.deepcopy(composed[combination])
        for override, value in chosen:
            if override.key_or_group not in schema.GROUPS:
                OmegaConf.update(trial, override.key_or_group, value, force_add=True)
        experiment = _resolved(trial, bad)
        if experiment is not None:
            yield Job(
                tuple(f"{o.key_or_group}={_text(value)}" for o, value in chosen if o.is_sweep_override()), experiment
            )


def one_line(error: Exception) -> str:
    """Return the message of a Hydra or OmegaConf error in one line."""
    key = getattr(error, "full_key", None)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return (f"{key}: " if key else "") + " ".join(lines)


def _resolved(config: DictConfig, bad: list[str]) -> schema.Experiment | None:
    try:
        return schema.resolve(config)
    except ConfigError as error:
        bad += error.problems
    except OmegaConfBaseException as error:
        bad.append(one_line(error))
    return None


def _parsed(overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
    """Return the overrides that can be read, and what is wrong with the others."""
    parser, parsed, bad = OverridesParser.create(), [], []
    for text in overrides:
        try:
            if "=" not in text and not text.startswith("~"):
                bad.append(f"an argument must be key=value, got {text}")
            else:
                parsed += parser.parse_overrides([text])
        except HydraException as error:
            reason = str(error).splitlines()[0]
            bad.append(f"an argument must be key=value with quotes around special characters, got {text} ({reason})")
    return parsed, bad


def _choices(override: Override) -> list[str]:
    return [_text(value) for value in _values(override)]


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _values(override: Override) -> list[Any]:
    """Return every value that an override stands for; of an interval, from which an optimiser draws, both ends."""
    given = override.value()
    if isinstance(given, IntervalSweep):
        return [given.start, given.end]
    if isinstance(given, Glob):
        return given.filter(options(override.key_or_group))
    if override.is_sweep_override():
        return [_plain(value) for value in override.sweep_iterator()]
    return [given]


def _plain(value: Any) -> Any:
    """Return a value of a sweep without the quotes that it was written in."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value.text if isinstance(value, QuotedString) else value


def _group_problems(override: Override, line: CommandLine) -> Iterator[str]:
    group = override.key_or_group
    choices = options(group, line.folders)
    for value in _choices(override):
        if value not in choices and not (group == "experiment" and value == "null"):
            yield f"{group} must be one of the files in conf/{group}, got {value}; {nearest(value, choices)}"


def _composed(
    line: CommandLine, groups: Sequence[Override], choice: Sequence[str], hydra: Sequence[str] | None = None
) -> DictConfig:
    """Return the settings of a choice of groups; with Hydra's own, changed as given, if any are given."""
    # In quotes, or a file that is called nan.yaml or 1.yaml would be taken for a number.
    quoted = [value if value == "null" else f'"{value}"' for value in choice]
    overrides = [f"{group.key_or_group}={value}" for group, value in zip(groups, quoted, strict=True)]
    overrides += hydra or []
    if line.extra_dirs:
        overrides.append(f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in line.extra_dirs)}]")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(line.config_path), version_base="1.3"):
            return compose(line.config_name, overrides=overrides, return_hydra_config=hydra is not None)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error


def _misfits(override: Override, config: DictConfig) -> Iterator[str]:
    key = override.key_or_group
    if _is_open(key, config):
        return
    node, parent = _node(config, key)
    if node is None and parent is None:
        yield f"{key} is no setting; {_near_key(key, config)}"
        return
    if override.is_delete():
        yield f"{key} cannot be deleted; set it to null where it is optional"
        return
    for value in _values(override):
        try:
            trial = OmegaConf.merge(config)
            assert isinstance(trial, DictConfig)
            OmegaConf.update(trial, key, value)
        except OmegaConfBaseException:
            yield _type_problem(key, value, node)


def _is_open(key: str, config: DictConfig) -> bool:
    """Return whether the key lies in a free-form dictionary, as model.config does."""
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else None
    return isinstance(node, DictConfig) and OmegaConf.get_type(node) is dict


def _node(config: DictConfig, key: str) -> tuple[Node | None, DictConfig | None]:
    """Return the node at the key and its parent; (None, None) when the schema has no such key."""
    parts = key.split(".")
    current: Any = config
    for position, part in enumerate(parts):
        if not isinstance(current, DictConfig) or current._is_none() or part not in current.keys():  # noqa: SIM118
            return None, None
        child = current._get_node(part, validate_access=False)
        if position == len(parts) - 1:
            return child if isinstance(child, Node) else None, current
        current = child
    return None, None


def _near_key(key: str, config: DictConfig) -> str:
    """Return a hint: the setting with nearly this name, or all settings of the section."""
    keys = _leaf_keys(config)
    if (new := other_names.today(key)) in keys:
        return f"did you mean {new}?"
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.75)
    if close:
        return f"did you mean {close[0]}?"
    section = key.rpartition(".")[0]
    inside = [name for name in keys if name.rpartition(".")[0] == section]
    shown = inside or [name for name in map(str, config.keys()) if name != "hydra"]
    return f"choose from {', '.join(shown)}"


def _leaf_keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in map(str, config.keys()):
        if not prefix and name == "hydra":
            continue
        child = config._get_node(name, validate_access=False)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += _leaf_keys(child, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _type_problem(key: str, value: Any, node: Node | None) -> str:
    hint, rule = "", "fit its type"
    wanted = node._metadata.ref_type if node is not None else Any
    optional = " or null" if node is not None and node._metadata.optional else ""
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        names = [member.name for member in wanted]
        renamed = other_names.VALUES.get(key, {}).get(str(value))
        rule = f"one of {', '.join(names)}"
        hint = f"; did you mean {renamed}?" if renamed else f"; {nearest(str(value), names)}"
    elif isinstance(node, ListConfig):
        inner = get_args(wanted)
        rule = f"a list of {PLURALS.get(inner[0], 'values') if inner else 'values'}"
        hint = f"; write {key}=[{value}]" if isinstance(value, str | int | float) else ""
    elif isinstance(wanted, type) and wanted in TYPES:
        rule = TYPES[wanted]
    elif isinstance(node, DictConfig):
        rule, hint = "a section", f"; set one of its keys, such as {key}.{next(iter(node.keys()), 'key')!s}"
    return f"{key} must be {rule}{optional}, got {'null' if value is None else repr(value)}{hint}"


def _tidied(override: Override, config: DictConfig) -> str:
    """Return the override as Hydra wants it: a plus for new keys of free-form sections only."""
    text = override.input_line or ""
    if is_hydra(override.key_or_group) or override.is_delete():
        return text
    bare = text.lstrip("+")
    return f"++{bare}" if _is_open(override.key_or_group, config) else bare
