"""The command line against the settings' schema: every mistake named at once, before Hydra runs.

Hydra stops at the first mistake, lets `+train.foo=1` pass and lists no choices of nested groups. Here the
groups are looked up in conf/, composed, and each key and value is tried on the typed result.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from pathlib import Path
from typing import Any, get_args

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from molex_cli import schema
from molex_cli.errors import ConfigError, nearest

MOST_COMBINATIONS = 64  # of group choices that are composed one by one before a sweep starts
OVERRIDE = re.compile(r"^(\+{0,2}|~)[A-Za-z_][\w./@-]*(=|$)")
TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def conf_dir() -> Path:
    """Return the folder of the YAML files: inside an installed wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@dataclass
class CommandLine:
    """The arguments of a command that composes settings."""

    overrides: list[str]
    flags: list[str] = field(default_factory=list)
    config_name: str = "config"
    config_path: Path = field(default_factory=conf_dir)
    extra_dirs: list[Path] = field(default_factory=list)
    multirun: bool = False

    @property
    def folders(self) -> list[Path]:
        """Return every folder that holds groups."""
        return [self.config_path, *self.extra_dirs]

    def argv(self) -> list[str]:
        """Return the arguments for Hydra: flags first, which its parser needs."""
        return [*self.flags, *self.overrides]


def parse(arguments: Sequence[str]) -> CommandLine:
    """Split the arguments into Hydra's flags and overrides; a relative -cp is one of the working directory."""
    flags = [argument for argument in arguments if not OVERRIDE.match(argument) or _is_value(arguments, argument)]
    overrides = [argument for argument in arguments if argument not in flags]
    known = get_args_parser().parse_args(flags)
    line = CommandLine(overrides=[*known.overrides, *overrides], multirun=known.multirun)
    line.flags = [flag for flag in flags if flag not in known.overrides]
    if known.config_name:
        line.config_name = known.config_name.removesuffix(".yaml")
    if known.config_path:
        line.config_path = _folder(known.config_path, "--config-path")
        line.flags[line.flags.index(known.config_path)] = str(line.config_path)
    if known.config_dir:
        line.extra_dirs.append(_folder(known.config_dir, "--config-dir"))
    return line


def options(group: str, folders: Sequence[Path] | None = None) -> list[str]:
    """Return the choices of a group: the YAML files under it, nested ones as `glue/rte`."""
    found = {
        str(path.relative_to(folder / group).with_suffix(""))
        for folder in (folders or [conf_dir()])
        for path in (folder / group).rglob("*.yaml")
    }
    return sorted(found)


def checked(line: CommandLine) -> schema.Experiment:
    """Return the (first) experiment of the command line and tidy its overrides; raise with every problem."""
    schema.register()
    parsed = _parsed(line.overrides)
    groups = [o for o in parsed if o.key_or_group in schema.GROUPS]
    if bad := list(_group_problems(groups, line)):
        raise ConfigError(bad)
    values = [o for o in parsed if o not in groups and not _is_hydra(o)]
    combinations = list(product(*(_choices(group) for group in groups)))[:MOST_COMBINATIONS]
    composed = [_composed(line, groups, combination) for combination in combinations]
    bad = list(dict.fromkeys(problem for o in values for problem in _value_problems(o, composed)))
    if bad and any(problem.startswith("no such key: ") for problem in bad):
        bad = [problem.removeprefix("no such key: ") for problem in bad]
    line.overrides = [_tidied(o, composed[0]) for o in parsed]
    first = composed[0]
    for override in values:
        if not list(_value_problems(override, composed)):
            OmegaConf.update(first, override.key_or_group, _values(override)[0], force_add=True)
    try:
        experiment = schema.resolve(first)
    except ConfigError as error:
        raise ConfigError([*bad, *error.problems]) from None
    except OmegaConfBaseException as error:
        raise ConfigError([*bad, one_line(error)]) from None
    if bad:
        raise ConfigError(bad)
    return experiment


def one_line(error: Exception) -> str:
    """Return the message of a Hydra or OmegaConf error in one line."""
    key = getattr(error, "full_key", None)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return (f"{key}: " if key else "") + " ".join(lines)


def _is_value(arguments: Sequence[str], argument: str) -> bool:
    """Return whether an argument without an equals sign follows a flag that takes a value."""
    position = list(arguments).index(argument)
    takes = ("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "-c", "--cfg", "-p", "--package")
    return position > 0 and arguments[position - 1] in (*takes, "-i", "--info") and "=" not in argument


def _folder(path: str, flag: str) -> Path:
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise ConfigError(f"{flag} must be a folder, got {path}")
    return folder


def _parsed(overrides: Sequence[str]) -> list[Override]:
    parser, parsed, bad = OverridesParser.create(), [], []
    for text in overrides:
        try:
            if "=" not in text and not text.startswith("~"):
                raise ConfigError(f"an argument must be key=value, got {text}")
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            reason = str(error).splitlines()[0]
            bad.append(f"an argument must be key=value with quotes around special characters, got {text} ({reason})")
        except ConfigError as error:
            bad += error.problems
    if bad:
        raise ConfigError(bad)
    return parsed


def _is_hydra(override: Override) -> bool:
    return override.key_or_group.split(".")[0].split("/")[0] == "hydra"


def _choices(override: Override) -> list[str]:
    return [str(value) for value in _values(override)]


def _values(override: Override) -> list[Any]:
    if override.is_sweep_override():
        return [value if isinstance(value, str) else _plain(value) for value in override.sweep_iterator()]
    return [override.value()]


def _plain(value: Any) -> Any:
    return value.text if hasattr(value, "text") else value


def _group_problems(groups: Sequence[Override], line: CommandLine) -> Iterator[str]:
    for override in groups:
        group = override.key_or_group
        choices = options(group, line.folders)
        for value in _choices(override):
            if value not in choices and not (group == "experiment" and value in ("null", "None")):
                yield f"{group} must be one of the files in conf/{group}, got {value}; {nearest(value, choices)}"


def _composed(line: CommandLine, groups: Sequence[Override], choice: Sequence[str]) -> DictConfig:
    overrides = [f"{group.key_or_group}={value}" for group, value in zip(groups, choice, strict=True)]
    if line.extra_dirs:
        overrides.append(f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in line.extra_dirs)}]")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(line.config_path), version_base="1.3"):
            return compose(line.config_name, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error)) from error


def _value_problems(override: Override, composed: Sequence[DictConfig]) -> Iterator[str]:
    """Yield why a value fits none of the composed settings; in a sweep over groups it must fit one."""
    found = []
    for config in composed:
        problems = list(_misfits(override, config))
        if not problems:
            return
        found.append(problems)
    yield from min(found, key=len)


def _misfits(override: Override, config: DictConfig) -> Iterator[str]:
    key = override.key_or_group
    if _is_open(key, config):
        return
    node, parent = _node(config, key)
    if node is None and parent is None:
        yield f"{key} is no setting; {nearest(key, _all_keys(config))}"
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


def _all_keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in map(str, config.keys()):  # noqa: SIM118 - iterating a DictConfig yields values for missing ones
        if not prefix and name == "hydra":
            continue
        child = config._get_node(name, validate_access=False)
        key = f"{prefix}{name}"
        keys.append(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += _all_keys(child, f"{key}.")
    return keys


def _type_problem(key: str, value: Any, node: Node | None) -> str:
    hint, rule = "", "fit its type"
    wanted = node._metadata.ref_type if node is not None else Any
    optional = " or null" if node is not None and node._metadata.optional else ""
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        names = [member.name for member in wanted]
        rule, hint = f"one of {', '.join(names)}", f"; {nearest(str(value), names)}"
    elif isinstance(node, ListConfig):
        inner = get_args(wanted)
        rule = f"a list of {TYPES.get(inner[0], 'values') if inner else 'values'}".replace("list of a ", "list of ")
        hint = f"; write {key}=[{value}]" if isinstance(value, str | int | float) else ""
    elif isinstance(wanted, type) and wanted in TYPES:
        rule = TYPES[wanted]
    elif isinstance(node, DictConfig):
        rule, hint = "a section", f"; set one of its keys, such as {key}.{str(next(iter(node.keys()), 'key'))}"
    return f"{key} must be {rule}{optional}, got {value!r}{hint}"


def _tidied(override: Override, config: DictConfig) -> str:
    """Return the override as Hydra wants it: a plus for new keys of free-form sections only."""
    text = override.input_line or ""
    if _is_hydra(override) or override.is_delete():
        return text
    bare = text.lstrip("+")
    return f"++{bare}" if _is_open(override.key_or_group, config) else bare
