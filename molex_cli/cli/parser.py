"""The argument parser of every command: a mistake is a ConfigError, a flag's old name hints at its new one."""

import argparse
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from molex_cli.config.command_line import refuse


class Parser(argparse.ArgumentParser):
    """The arguments of one command."""

    def __init__(self, command: str, description: str | None, **settings: Any) -> None:
        super().__init__(prog=f"molex {command}", description=description, **settings)
        self.register("type", float, _finite)

    def add_overrides(self, help: str | None = "settings, as for molex train") -> None:
        """Take key=value settings, between the flags too."""
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
        paths = [f"./{each}" if each.startswith("-") else each for each in given[end + 1 :]]
        return self.parse_intermixed_args([*given[:end], *paths])

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as a ConfigError."""
        refuse(message)


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
