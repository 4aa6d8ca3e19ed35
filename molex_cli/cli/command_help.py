"""`molex COMMAND --help [PART ...]`: the whole, or the part of the settings that is asked for."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from molex_cli.cli import help_text
from molex_cli.cli.parser import HELP, Parser
from molex_cli.config import command_line, other_names, overrides, reference, schema
from molex_cli.config.reference import Section
from molex_cli.errors import ConfigError, nearest
from molex_cli.runtime.streams import say
from molex_cli.runtime.terminal import paged


def show(parser: Parser, arguments: Sequence[str]) -> None:
    """Print the help of a command, with the values that the other arguments give its settings."""
    if any(each in ("-cn", "--config-name") for each in arguments) or parser.reads != ():
        schema.register()
    parts = _parts(arguments)
    blocks = list(_asked(parser, parts, arguments)) if parts else list(_whole(parser, arguments))
    text = "\n\n".join(blocks)
    if not paged(text):
        say(text)


def _parts(arguments: Sequence[str]) -> list[str]:
    """Return the words behind --help that are neither flags nor settings."""
    first = next(i for i, each in enumerate(arguments) if each in HELP)
    return [each for each in arguments[first + 1 :] if "=" not in each and not each.startswith("-")]


def _whole(parser: Parser, arguments: Sequence[str]) -> Iterator[str]:
    around = _around(arguments) if parser.lists_all else ("", "")
    yield from (text for text in around[:1] if text)
    yield parser.format_usage().strip()
    if parser.description:
        yield help_text.wrapped(parser.description)
    if parser.reads is None:
        yield help_text.wrapped(
            f"A part: {parser.prog} --help method.allocation (or task, train.epochs, ...); the other arguments count: "
            f"{parser.prog} method=lora --help method." + ("" if parser.lists_all else " All: molex train --help.")
        )
    if parser.own is not None:
        yield "\n".join(["settings of this command alone", *_own(parser.own)])
    if parser.lists_all:
        yield from _all_settings(parser, arguments)
    elif parser.reads:
        yield _read(parser, arguments)
    if shown := [each for each in parser.actions() if each.dest != "overrides"]:
        yield "\n".join(["flags and arguments", help_text.flags(shown)])
    if parser.epilog:
        yield help_text.wrapped(parser.epilog)
    if parser.examples:
        yield help_text.examples(parser.examples)
    yield from (text for text in around[1:] if text)


def _around(arguments: Sequence[str]) -> tuple[str, str]:
    """Return what the settings want the help to begin and to end with."""
    about = overrides.hydra_settings(command_line.composing(arguments)).hydra.help
    return about.header, about.footer


def _own(own: type) -> list[str]:
    return [help_text.setting(each) for some in reference.sections(own) for each in some.settings]


def _all_settings(parser: Parser, arguments: Sequence[str]) -> Iterator[str]:
    """Yield the files to choose, then every section."""
    experiment, line = _composed(parser, arguments)
    yield "\n".join(["files to choose (group=choice)", *(_choices(group, line) for group in schema.GROUPS)])
    yield "settings (key=value), as this command line makes them"
    yield from map(help_text.section, reference.sections(experiment))


def _read(parser: Parser, arguments: Sequence[str]) -> str:
    """Return the settings of a run that a command reads: single ones whole, sections by their name."""
    experiment, _ = _composed(parser, arguments)
    found = list(reference.sections(experiment))
    lines = [f"settings as for molex train; {parser.prog} --help task shows a part"]
    for key in parser.reads or ():
        named = next((each for each in found if each.key == key), None)
        lines += [help_text.headed(named)] if named else help_text.part(found, key)
    return "\n".join(lines)


def _asked(parser: Parser, parts: Sequence[str], arguments: Sequence[str]) -> Iterator[str]:
    """Yield each part that is asked for; raise ConfigError for one that the command does not read."""
    found = list(reference.sections(parser.own)) if parser.own else []
    line = None
    if parser.reads != ():
        experiment, line = _composed(parser, arguments)
        found += [each for each in map(_kept(parser), reference.sections(experiment)) if each.settings]
    keys = [each.key for each in found if each.key] + [each.key for some in found for each in some.settings]
    for name in parts:
        name = name if name in keys else other_names.today(name, keys) or name
        if name not in keys:
            way_out = nearest(name, keys) if keys else f"{parser.prog} --help has all there is"
            raise ConfigError(f"--help must be followed by a part of the settings, got {name}; {way_out}")
        if line is not None and name in schema.GROUPS:
            yield _choices(name, line)
        yield from help_text.part(found, name)


def _kept(parser: Parser) -> Any:
    """Return what leaves of a section the settings that a command reads."""

    def kept(section: Section) -> Section:
        reads = parser.reads
        some = [each for each in section.settings if reads is None or _is_in(each.key, reads)]
        return dataclasses.replace(section, settings=tuple(some))

    return kept


def _is_in(key: str, reads: Sequence[str]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in reads)


def _composed(parser: Parser, arguments: Sequence[str]) -> tuple[schema.Experiment, command_line.CommandLine]:
    """Return the experiment that the settings among the arguments make, and the line with every folder."""
    line = command_line.composing(arguments)
    own = {each.name for each in dataclasses.fields(parser.own)} if parser.own else set()
    others = [text for text in line.overrides if text.partition("=")[0] not in own]
    jobs, found = overrides.jobs(dataclasses.replace(line, overrides=others, multirun=True))
    return jobs[0].experiment, found


def _choices(group: str, line: command_line.CommandLine) -> str:
    return help_text.wrapped(f"{group}={', '.join(command_line.options(group, line.folders))}", 2, 6)
