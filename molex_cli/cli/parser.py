"""The argument parser of every command: what it takes is stated once, for its help, completion and mistakes."""

import argparse
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from molex_cli.config.command_line import refuse
from molex_cli.errors import ConfigError

DESCRIBE = "\0describe"
"""The only argument of a command that is asked what it takes: it raises `Described` where it would read arguments."""
HELP = ("-h", "--help")


class Described(Exception):
    """What a command takes."""

    def __init__(self, parser: "Parser") -> None:
        self.parser = parser
        super().__init__(parser.prog)


class Parser(argparse.ArgumentParser):
    """The arguments of one command: flags, paths, and key=value settings of its own or of a run."""

    own: type | None = None
    """The dataclass of the settings that only this command has."""
    reads: tuple[str, ...] | None = ()
    """The settings of a run that it reads, or their sections; None stands for all."""
    lists_all: bool = False
    """Whether its help has every setting, instead of naming the command that has."""

    def __init__(self, command: str, description: str | None, *, examples: Sequence[str] = (), **settings: Any) -> None:
        about = (description or "").removeprefix(f"`molex {command}`: ")
        super().__init__(prog=f"molex {command}", description=f"{about[:1].upper()}{about[1:]}", **settings)
        self.examples = list(examples)
        self.register("type", float, _finite)

    def add_overrides(
        self, help: str = "settings, as for molex train", *, own: type | None = None, reads: Sequence[str] | None = None
    ) -> None:
        """Take key=value settings, between the flags too: the command's own, and those of a run, or some of them."""
        self.own, self.reads = own, None if reads is None else tuple(reads)
        self.add_argument("overrides", nargs="*", metavar="key=value", help=help)

    def add_renamed(self, flag: str, new: str) -> None:
        """Refuse a flag's old name with its new one as the hint."""
        self.add_argument(flag, action=_Renamed, const=new, help=argparse.SUPPRESS)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the options; raise ConfigError for arguments that --help does not list.

        Behind `--` all are paths, also those that begin with a dash.
        """
        given = list(arguments)
        end = given.index("--") if "--" in given else len(given)
        self.show_what_is_asked(given[:end])
        paths = [f"./{each}" if each.startswith("-") else each for each in given[end + 1 :]]
        options = self.parse_intermixed_args([*given[:end], *paths])
        for text in getattr(options, "overrides", []):
            self._refuse_flag_as_setting(text)
        return options

    def _refuse_flag_as_setting(self, text: str) -> None:
        """Raise for a flag that is written as a setting, which file=new.csv may be meant for."""
        own = {each.name for each in dataclasses.fields(self.own)} if self.own else set()
        key, equals, value = text.partition("=")
        if equals and f"--{key}" in self._option_string_actions and key not in own:
            raise ConfigError(f"{key} is a flag of {self.prog} and no setting; did you mean --{key} {value}?")

    def show_what_is_asked(self, arguments: Sequence[str]) -> None:
        """Print the help that the arguments ask for and end; raise Described if they ask what the command takes."""
        if list(arguments) == [DESCRIBE]:
            raise Described(self)
        if any(each in HELP for each in arguments):
            from molex_cli.cli import command_help

            command_help.show(self, arguments)
            raise SystemExit(0)

    def actions(self) -> list[argparse.Action]:
        """Return the flags and other arguments, in the order in which they were added, less --help."""
        return [each for each in self._actions if not isinstance(each, argparse._HelpAction)]

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as a ConfigError."""
        if (missing := message.partition("arguments are required: ")[2]) and self.examples:
            raise ConfigError(f"{self.prog} needs {missing}; for example: {self.examples[0]}")
        refuse(message, self._option_string_actions)


def _finite(text: str) -> float:
    """Return a number; nan and the infinities are none that a flag could mean."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text}")
    return value


class _Renamed(argparse.Action):
    """A flag that was renamed, with whatever value it has."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(nargs="?", default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Raise the hint."""
        parser.error(f"{self.option_strings[0]}; did you mean {self.const}?")
