"""Arguments of a command that composes settings: Hydra's flags, overrides, and where the YAML files are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from molex_cli.config.hydra_internals import arguments_parser
from molex_cli.errors import ConfigError
from molex_cli.runtime.paths import expanded

OVERRIDE = re.compile(r"^(\+{0,2}|~)[A-Za-z_][\w./@-]*(=|$)")
TAKES_VALUE = (
    "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "-c", "--cfg", "-p", "--package",
    "-i", "--info",
)  # fmt: skip


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
    flags: list[str] = []
    overrides: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_value = before in TAKES_VALUE and "=" not in argument
        (flags if is_value or not OVERRIDE.match(argument) else overrides).append(argument)
    parser = arguments_parser()
    parser.error = refuse  # type: ignore[method-assign]
    known = parser.parse_args(flags)
    line = CommandLine(overrides=[*known.overrides, *overrides], multirun=known.multirun)
    line.flags = [flag for flag in flags if flag not in known.overrides]
    if known.config_name:
        line.config_name = known.config_name.removesuffix(".yaml")
    if known.config_path:
        line.config_path = _folder(known.config_path, "--config-path")
        line.flags += ["--config-path", str(line.config_path)]  # the last one wins
    if known.config_dir:
        line.extra_dirs.append(_folder(known.config_dir, "--config-dir"))
        line.flags += ["--config-dir", str(line.extra_dirs[0])]
    return line


def options(group: str, folders: Sequence[Path] | None = None) -> list[str]:
    """Return the choices of a group: the YAML files under it, nested ones as `glue/rte`."""
    found = {
        str(path.relative_to(folder / group).with_suffix(""))
        for folder in (folders or [conf_dir()])
        for path in (folder / group).rglob("*.yaml")
    }
    return sorted(found)


def refuse(message: str) -> NoReturn:
    """Raise argparse's complaint as a ConfigError."""
    raise ConfigError(f"the arguments must be those that --help lists, got: {message}")


def _folder(path: str, flag: str) -> Path:
    folder = expanded(path).resolve()
    if not folder.is_dir():
        raise ConfigError(f"{flag} must be a folder, got {path}")
    return folder
