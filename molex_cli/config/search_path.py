"""Where settings of one's own are looked for: hydra.searchpath as people write it."""

import dataclasses

from hydra.core.override_parser.types import Quote, QuotedString

from molex_cli.config import hydra_settings as hydras
from molex_cli.config import own_files
from molex_cli.config.command_line import CommandLine
from molex_cli.config.parsing import key_of, parsed
from molex_cli.runtime.paths import expanded

SEARCH_PATH = "hydra.searchpath"


def with_home(line: CommandLine) -> CommandLine:
    """Return the line with the home folder in place of `~` in the search path, which Hydra takes as it is written."""
    given = [o.value() for o in parsed(line.overrides)[0] if o.key_or_group == SEARCH_PATH]
    if not given:
        first = next(file for folder in line.folders if (file := folder / f"{line.config_name}.yaml").is_file())
        own_files.content(first)
        given = [hydras.own_search_path(first)]
    if not isinstance(given[-1], list) or not any(str(each).startswith("~") for each in given[-1]):
        return line
    # As a path an address, pkg://..., would lose one of its slashes.
    found = [str(expanded(each)) if str(each).startswith("~") else str(each) for each in given[-1]]
    paths = [QuotedString(each, Quote.double).with_quotes() for each in found]
    others = [text for text in line.overrides if key_of(text) != SEARCH_PATH]
    return dataclasses.replace(line, overrides=[*others, f"{SEARCH_PATH}=[{','.join(paths)}]"])
