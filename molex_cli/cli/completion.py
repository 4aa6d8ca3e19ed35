"""Tab completion: subcommands and group choices here, settings by Hydra's own completion."""

import contextlib
import os

from molex_cli.cli.registry import commands
from molex_cli.errors import MolexError
from molex_cli.runtime.streams import say


def main(argv: list[str]) -> int:
    """Answer `molex -sc install=bash` and the queries of the installed function."""
    if any(argument.startswith("query=") for argument in argv):
        return _query(argv)
    return _hydra(argv)


def _query(argv: list[str]) -> int:
    words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) <= 2:
        say(" ".join(name for name in commands() if name.startswith(words[-1] if len(words) == 2 else "")))
        return 0
    group, equals, start = words[-1].partition("=")
    if equals and (choices := _choices(group.lstrip("+"), start, words[2:-1])):
        say(" ".join(f"{group}={choice}" for choice in choices))
        return 0
    os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    return _hydra(argv)


def _choices(group: str, start: str, others: list[str]) -> list[str]:
    """Return the files of a group that begin so, those of a folder that the other words add among them."""
    from molex_cli.config import command_line
    from molex_cli.config.schema import GROUPS

    folders = None
    with contextlib.suppress(MolexError, SystemExit):
        folders = command_line.parse(others).folders
    return (
        [choice for choice in command_line.options(group, folders) if choice.startswith(start)]
        if group in GROUPS
        else []
    )


def _hydra(argv: list[str]) -> int:
    from omegaconf import OmegaConf

    from molex_cli.cli import train
    from molex_cli.config import command_line, schema

    schema.register()
    OmegaConf.register_new_resolver("molex_options", str, replace=True)
    return train.application(argv, str(command_line.conf_dir()), name="molex")
