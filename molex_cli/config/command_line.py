"""Arguments of a command that composes settings: Hydra's flags, overrides, and where the YAML files are."""

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from molex_cli.config.hydra_internals import arguments_parser
from molex_cli.errors import ConfigError
from molex_cli.runtime.paths import expanded

OVERRIDE = re.compile(r"^(\+{0,2}|~)[A-Za-z_][\w./@-]*(=|$)")
TAKES_VALUE = (
    "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "-c", "--cfg", "-p", "--package",
    "-i", "--info", "--experimental-rerun",
)  # fmt: skip
OWN_FLAGS = ("--help", "--cfg", "--info", "--multirun", "--match", "--config-dir")
NUMBERS = {"int": "a whole number", "float": "a number"}
FOLDER_FLAGS = ("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir")


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
    searched: list[Path] = field(default_factory=list)
    """Folders that hydra.searchpath adds."""
    multirun: bool = False
    shows: str = ""
    """The flag that asks to be shown something instead of a run: --help, --hydra-help, --cfg or --info."""
    package: str | None = None
    """The part of the settings that --cfg shows; None for all."""

    @property
    def folders(self) -> list[Path]:
        """Return every folder that holds groups, in the order in which Hydra looks into them."""
        return [self.config_path, *self.extra_dirs, *self.searched]

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
    parser.error = _refuse_flag  # type: ignore[method-assign]
    known = parser.parse_args(flags)
    if problems := list(_flag_problems(known)):
        raise ConfigError(problems)
    line = CommandLine(overrides=[*known.overrides, *overrides], multirun=known.multirun, package=known.package)
    line.shows = next(iter(_shown(known)), "")
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


def composing(arguments: Sequence[str]) -> CommandLine:
    """Return what makes the settings in a line that may have anything else in it, flags of a command as well."""
    kept: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        flag = argument.partition("=")[0]
        is_choice = "=" in argument and OVERRIDE.match(argument)
        if flag in FOLDER_FLAGS or (before in FOLDER_FLAGS and "=" not in argument) or is_choice:
            kept.append(argument)
    return parse(kept)


def options(group: str, folders: Sequence[Path] | None = None) -> list[str]:
    """Return the choices of a group: the YAML files under it, nested ones as `glue/rte`."""
    found = {
        str(path.relative_to(folder / group).with_suffix(""))
        for folder in (folders or [conf_dir()])
        for path in (folder / group).rglob("*.yaml")
        if path.is_file()
    }
    return sorted(found)


def refuse(message: str, flags: Iterable[str] = ()) -> NoReturn:
    """Raise argparse's complaint as a ConfigError, in a sentence; `flags` are those that it may have been."""
    about = re.fullmatch(r"argument (?P<flag>[^:]+): (?P<complaint>.+)", message, re.DOTALL)
    if about:
        raise ConfigError(f"{about['flag']} must {_rule(about['complaint'])}")
    unknown = message.removeprefix("unrecognized arguments: ")
    close = difflib.get_close_matches(unknown.split()[0], list(flags), n=1, cutoff=0.7) if unknown != message else []
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"the arguments must be those that --help lists, got: {unknown}{hint}")


def _rule(complaint: str) -> str:
    """Return what a value must be, of argparse's complaint about it."""
    if found := re.fullmatch(r"invalid choice: (.+) \(choose from (.+)\)", complaint, re.DOTALL):
        got, choices = found[1].strip("'\""), [each.strip("'\"") for each in found[2].split(", ")]
        return f"be one of {', '.join(choices)}, got {got}{_near(got, choices)}"
    if found := re.fullmatch(r"invalid (\w+) value: (.+)", complaint, re.DOTALL):
        return f"be {NUMBERS.get(found[1], 'a value that fits')}, got {found[2]}"
    if complaint.startswith("expected"):
        return f"be followed by {complaint.removeprefix('expected ').replace('argument', 'value')}"
    if complaint.startswith("not allowed with argument "):
        return f"go without {complaint.removeprefix('not allowed with argument ')}"
    return complaint.removeprefix("must ") if complaint.startswith("must ") else f"be as --help says: {complaint}"


def _near(name: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _refuse_flag(message: str) -> NoReturn:
    """Raise argparse's complaint; a flag that it does not know is a setting by the name that other programs have."""
    flag = re.search(r"unrecognized arguments: --([\w.-]+)", message)
    if flag is None:
        refuse(message)
    from molex_cli.config import other_names, reference, schema  # which import this file's neighbours
    from molex_cli.methods.lora import LoRA

    found = (*reference.sections(schema.Experiment), *reference.sections(LoRA, "method"))
    keys = [*(each.key for some in found for each in some.settings), *schema.GROUPS]
    key = flag[1].replace("-", "_")
    meant = key if key in keys else other_names.today(key, keys)
    whole = meant if not meant or "=" in meant else f"{meant}=..."
    way_out = f"; did you mean {whole}?" if whole else _near(f"--{flag[1]}", OWN_FLAGS) or "; settings are key=value"
    refuse(f"--{flag[1]}{way_out}")


def _shown(known: argparse.Namespace) -> list[str]:
    """Return the flags that show something."""
    flags = ("help", "hydra_help", "cfg", "info")
    return [f"--{name.replace('_', '-')}" for name in flags if getattr(known, name)]


def _flag_problems(known: argparse.Namespace) -> Iterator[str]:
    """Yield what is wrong with Hydra's flags: those that would do nothing here, or not go with others."""
    shown = _shown(known)
    if known.shell_completion:
        yield '--shell-completion must follow molex itself, got it after a command; eval "$(molex -sc install=bash)"'
    if known.experimental_rerun:
        yield (
            f"--experimental-rerun must be left out, got {known.experimental_rerun}; "
            "the command of a run resumes it, and resume=never starts it over"
        )
    if len(shown) > 1:
        yield f"{shown[0]} must be given alone, got {' and '.join(shown[1:])} too; leave one out"
    if known.run and known.multirun:
        yield "--run must go without --multirun, got both; leave one out"
    if (known.run or known.multirun) and shown and shown[0] in ("--cfg", "--info"):
        yield f"{shown[0]} must go without {'--run' if known.run else '-m'}, got both; it shows one run's settings"
    if known.resolve and not {"--cfg", "--help"} & set(shown):
        yield "--resolve must go with --cfg, got it alone; add --cfg job"
    if known.package and "--cfg" not in shown:
        yield f"--package must go with --cfg, got {known.package} alone; add --cfg job"


def _folder(path: str, flag: str) -> Path:
    folder = expanded(path).resolve()
    if not folder.is_dir():
        raise ConfigError(f"{flag} must be a folder, got {path}")
    return folder
