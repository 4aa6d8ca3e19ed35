"""`molex compare --targets`: the published tables that are asked for, and the settings of their presets."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.cli.parser import Parser
from molex_cli.errors import ConfigError, nearest
from molex_cli.runtime.paths import expanded, require_file

if TYPE_CHECKING:
    from molex_cli.compare.layout import Section
    from molex_cli.compare.table import Comparison
    from molex_cli.compare.targets.definition import Targets

ALL = "all"
ENDINGS = (".yaml", ".yml")


def add_flag(parser: Parser) -> None:
    """Let a comparison be asked for published numbers."""
    parser.add_argument(
        "--targets",
        nargs="?",
        const=ALL,
        metavar="NAME",
        help="published numbers and verdicts beside runs of a paper's preset: all, a table such as papers/mola_table1, "
        "or a FILE.yaml; behind the paths",
    )


def sections(name: str | None, table: "Comparison", format_name: str) -> "Sequence[Section]":
    """Return the tables of published numbers that a name asks for; none where none is asked for."""
    if name is None:
        return ()
    if format_name == "csv":
        raise ConfigError("--targets must go with a format that has more than one table, got csv; json has all")
    from molex_cli.compare.targets import found_in
    from molex_cli.compare.targets.layout import sections

    asked = read(name)
    return sections(found_in(table, list(asked.values()), _composed), asked, table, is_named=name != ALL)


def read(name: str) -> dict[str, "Targets"]:
    """Return the published tables by name; raise ConfigError for an unknown name or a file that is none."""
    from molex_cli.compare.targets.definition import targets_of
    from molex_cli.config import own_files
    from molex_cli.config.command_line import conf_dir, options
    from molex_cli.config.hydra_internals import yaml_loader

    known = {each: conf_dir() / "targets" / f"{each}.yaml" for each in options("targets")}
    asked = known if name == ALL else {name: known[name]} if name in known else {name: _file(name, known)}
    found = {}
    for each, path in asked.items():
        node = own_files.content(path)
        found[each] = targets_of({} if node is None else yaml_loader()("").construct_document(node), str(path))
    return found


def _file(name: str, known: Mapping[str, Path]) -> Path:
    """Return the file that a name is; raise ConfigError where it is none."""
    path = expanded(name)
    if path.suffix not in ENDINGS:
        raise ConfigError(f"--targets must be a published table or a FILE.yaml, got {name}; {nearest(name, known)}")
    try:
        require_file(path).stat()
    except OSError as error:
        raise ConfigError(f"--targets must be a YAML file, got {path} ({error.strerror})") from None
    return path


@cache
def _composed(overrides: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the settings that overrides make."""
    from molex_cli.config import command_line
    from molex_cli.config.overrides import checked
    from molex_cli.config.schema import as_data

    settings: Mapping[str, Any] = as_data(checked(command_line.CommandLine(overrides=list(overrides))))
    return settings
