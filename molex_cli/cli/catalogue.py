"""What completion offers, gathered once: commands, their flags and settings, and all that can be set."""

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from molex_cli.cli import registry
from molex_cli.cli.parser import DESCRIBE, Described, Parser
from molex_cli.config import catalogue as settings
from molex_cli.config import command_line, reference, schema

RUNS = ("run", "runs", "paths")
"""Arguments that are folders of runs, by the names that the commands have for them."""


def gathered(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the catalogue of a command line, whose flags may add folders of YAML files."""
    schema.register()
    found = settings.catalogue(command_line.composing(arguments).folders)
    parsers = {name: parser for name in registry.commands() if (parser := parser_of(name))}
    return {"commands": {name: _about(parser) for name, parser in parsers.items()}, **found}


def parser_of(command: str) -> Parser | None:
    """Return what a command takes; None for one that reads its arguments with another parser."""
    module = registry.module_of(command)
    try:
        import_module(module or "").main([DESCRIBE])
    except Described as described:
        return described.parser
    except Exception:  # of a command that somebody adds: the others complete all the same
        return None
    return None


def _about(parser: Parser) -> dict[str, Any]:
    own = [each for some in reference.sections(parser.own) for each in some.settings] if parser.own else []
    shown = [each for each in parser.actions() if each.help is not argparse.SUPPRESS and each.dest != "overrides"]
    positional = [each for each in shown if not each.option_strings]
    return {
        "flags": {flag: _choices(each) for each in shown for flag in each.option_strings},
        "bare": [flag for each in shown if each.nargs == 0 for flag in each.option_strings],
        "own": {each.key: list(each.choices) for each in own},
        "reads": None if parser.reads is None else list(parser.reads),
        "words": [word for each in positional for word in _choices(each)],
        "takes_runs": any(each in RUNS for each in (*(each.key for each in own), *(each.dest for each in positional))),
    }


def _choices(action: argparse.Action) -> list[str]:
    """Return what a flag takes where that is a list; a metavar such as tasks|methods lists it too."""
    if action.choices is not None:
        return list(map(str, action.choices))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return metavar.split("|") if "|" in metavar else []
