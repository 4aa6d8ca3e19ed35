"""What the commands that open a saved run share: PATH, or run=PATH, and their own key=value settings."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from molex_cli.config import command_line, overrides
from molex_cli.config.hydra_internals import child, declared
from molex_cli.config.parsing import home_quoted, key_of, one_line
from molex_cli.config.texts import override_problem
from molex_cli.errors import ConfigError

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment


@dataclass(kw_only=True)
class SavedRunSettings:
    """Settings of every command that opens a run."""

    run: str = field(default="", metadata={"shown": "PATH"})
    """Folder of a run, an adapter file, or hub:USER/NAME, which `molex push` sent; the path alone is enough."""
    which: str = field(default="last", metadata={"choices": ("last", "best")})
    """Which of its adapters."""


Own = TypeVar("Own")
Opening = TypeVar("Opening", bound=SavedRunSettings)


def paths_in(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that are paths of runs, and the others, which are settings."""
    return [each for each in arguments if "=" not in each], [each for each in arguments if "=" in each]


def read(
    kind: type[Opening], arguments: Sequence[str], allowed: Sequence[str]
) -> "tuple[Opening, Experiment, set[str]]":
    """Return the command's own settings, the other settings over their defaults, and the keys of those others."""
    paths, settings = paths_in(arguments)
    own, left = split_settings(kind, settings)
    _require_own_near(kind, left)
    runs = [*paths, *([own.run] if own.run else [])]
    if not runs:
        raise ConfigError("a run must be named: add outputs/NAME, its folder or an adapter file in it")
    if len(runs) > 1:
        raise ConfigError(f"one run must be named here, got {' and '.join(runs)}; leave one out")
    own.run = runs[0]
    experiment = overrides.checked(command_line.CommandLine(overrides=left))
    return own, experiment, require_known(left, allowed)


def _require_own_near(kind: type, given: Sequence[str]) -> None:
    """Raise for a misspelt setting of the command's own, which those of a run would be searched for."""
    from molex_cli.config.schema import GROUPS, Experiment

    names = [each.name for each in fields(kind)]
    others = {*GROUPS, *(each.name for each in fields(Experiment))}
    for key in map(key_of, given):
        if key not in others and (close := difflib.get_close_matches(key, names, n=1, cutoff=0.7)):
            raise ConfigError(f"{key} is no setting; did you mean {close[0]}?")


def require_known(given: Sequence[str], allowed: Sequence[str]) -> set[str]:
    """Return the keys of the overrides; raise ConfigError for one that this command would not look at."""
    keys = require_read(given, allowed)
    for key in sorted(keys):
        section = key.split(".")[0]
        if section == "task" and "task" not in keys:
            raise ConfigError(
                f"{key} must come with task=NAME, got it alone; the run's own task stays as it was trained"
            )
    return keys


def require_read(given: Sequence[str], allowed: Sequence[str]) -> set[str]:
    """Return the keys of the overrides; raise ConfigError for one that is in none of the allowed sections."""
    keys = {key_of(text) for text in given}
    for key in sorted(keys):
        if key not in allowed and key.split(".")[0] not in allowed:
            raise ConfigError(f"{key} must be one of {', '.join(allowed)} here, got a setting that is not read")
    return keys


def data_dir(own: "Experiment", given: "Experiment", keys: set[str]) -> str | None:
    """Return where the data is: what the command line says, else the run's own folder, else MOLEX_DATA."""
    return given.data_dir if "data_dir" in keys else own.data_dir or given.data_dir


def split_settings(kind: type[Own], arguments: Sequence[str]) -> tuple[Own, list[str]]:
    """Return the command's own settings and the overrides that are left for Hydra."""
    own: Any = OmegaConf.structured(kind)
    parser, left = OverridesParser.create(), []
    for text in arguments:
        key = text.partition("=")[0]
        if "=" not in text or key not in own:
            left.append(text)
            continue
        try:
            value = parser.parse_override(home_quoted(text)).value()
            OmegaConf.update(own, key, value)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"{key} must fit its type, got {text}: {one_line(error)}") from None
        node = child(own, key)
        typed = text.partition("=")[2]
        if node is not None and (problem := override_problem(key, value, typed, declared(node)[0])):
            raise ConfigError(problem)
    try:
        settings = OmegaConf.to_object(own)
    except OmegaConfBaseException as error:
        raise ConfigError(f"settings of this command must have a value each, got: {one_line(error)}") from None
    assert isinstance(settings, kind)
    return settings, left
