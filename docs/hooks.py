"""What mkdocs does beside its own work: reference pages read off the code, and the pages that lie outside docs/."""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import molex_cli
from molex_cli.cli import registry
from molex_cli.cli.catalogue import parser_of
from molex_cli.cli.help_text import flag_name, flag_takes
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, overrides, reference, schema
from molex_cli.config.reference import Section, Setting
from molex_cli.methods.base import METHODS

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "outputs/README.md": "outputs.md",
}
"""Pages that lie outside docs/, and the pages of the site that have their place."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    pages = {"commands.md": commands(), "settings.md": settings(), "api.md": api()}
    for path, page in OUTSIDE.items():
        if page != "index.md":
            pages[page] = (ROOT / path).read_text(encoding="utf-8").replace("](docs/", "](")
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, files: Files, **_: object) -> str:
    """Prepare a page for the site: links within it by title, error lines that wrap, pictures that open alone."""
    for path, page in OUTSIDE.items():
        markdown = re.sub(rf"\]\((\.\./)?{re.escape(path)}(?=[)#])", f"]({page}", markdown)
    markdown = re.sub(r"\[[\w/.]+\.md\]\((\w+\.md)", lambda link: f"[{_title(files, link[1])}]({link[1]}", markdown)
    markdown = re.sub(r"!\[[^]]*\]\(([^)]+)\)", r"[\g<0>](\1)", markdown)
    return markdown.replace("```text\n", "``` { .text .wrap }\n")


def _title(files: Files, path: str) -> str:
    """Return the title of a page in the navigation, or its path where it has none."""
    file = files.get_file_from_path(path)
    return str(file.page.title) if file and file.page and file.page.title else path


def commands() -> str:
    """Return the page of all commands, as their --help has them."""
    schema.register()
    known = registry.commands()
    overview = [(f"[`molex {name}`](#molex-{name})", _plain(summary)) for name, summary in known.items()]
    texts = [_command(name, parser) for name in known if (parser := parser_of(name))]
    return "\n\n".join(["# Commands", _table("command", "what it does", rows=overview), *texts]) + "\n"


def api() -> str:
    """Return the page of what Python may use, functions first, whose texts mkdocstrings puts in."""
    names = sorted(molex_cli.__all__, key=lambda name: name[0].isupper())
    about = "[Python](python.md) shows them at work."
    return "\n\n".join(["# Python API", about, *(f"::: molex_cli.{name}" for name in names)]) + "\n"


def settings() -> str:
    """Return the page of all settings of a run, then those of each method."""
    schema.register()
    experiment = overrides.checked(command_line.CommandLine(overrides=["data_dir=null"]))
    groups = [(f"`{group}=`", _listed(command_line.options(group))) for group in schema.GROUPS]
    texts = [
        "Any setting is `key=value` on the command line of `molex train`; a default is that of `molex train` alone.",
        _table("files", "choices", rows=groups),
        *(_section(each, "##") for each in reference.sections(experiment) if each.key.partition(".")[0] != "method"),
        "## `method`",
        "Each method has settings of its own. The files of `method=` set some of them.",
        *(_method(name) for name in sorted(METHODS)),
    ]
    return "\n\n".join(["# Settings", *texts]) + "\n"


def _command(name: str, parser: Parser) -> str:
    own = [each for some in reference.sections(parser.own) for each in some.settings] if parser.own else []
    flags = [each for each in parser.actions() if each.help is not argparse.SUPPRESS and each.dest != "overrides"]
    rows = [(f"`{flag_name(each)}`", _plain("; ".join(flag_takes(each))), _plain(each.help or "")) for each in flags]
    texts = [
        f"## `molex {name}`",
        _plain(parser.description or ""),
        _fenced(parser.format_usage().removeprefix("usage: ")),
        _settings(own),
        _reads(parser.reads),
        _table("argument", "takes", "what it does", rows=rows),
        _fenced("\n".join(parser.examples)),
    ]
    return "\n\n".join(filter(None, texts))


def _reads(reads: Sequence[str] | None) -> str:
    if reads is None:
        return "It takes every [setting](settings.md)."
    return f"It takes these [settings](settings.md) of a run: {_listed(reads)}." if reads else ""


def _method(name: str) -> str:
    first, *inner = reference.sections(METHODS[name], "method")
    texts = [f"### Settings of `{name}`", _plain(first.sentence), _settings(first.settings)]
    return "\n\n".join([*texts, *(_section(each, "####") for each in inner)])


def _section(section: Section, heading: str) -> str:
    title = f"`{section.key}`" if section.key else "The run itself"
    return f"{heading} {title}\n\n{_plain(section.sentence)}\n\n{_settings(section.settings)}"


def _settings(found: Sequence[Setting]) -> str:
    rows = [(f"`{each.key}`", _plain(each.takes), _value(each.value), _plain(each.sentence)) for each in found]
    return _table("setting", "takes", "default", "what it does", rows=rows)


def _value(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(*head: str, rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _fenced(text: str) -> str:
    return f"```\n{text.strip()}\n```" if text.strip() else ""


def _plain(text: str) -> str:
    """Return a text in which nothing is markup but its `code`."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_<>|\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
