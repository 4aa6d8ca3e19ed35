"""The formats of a comparison: every file in this folder is one, named as its file, with a function `text(report)`.

A file is imported when its format is chosen.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from molex_cli.errors import ConfigError, nearest

if TYPE_CHECKING:
    from molex_cli.compare.layout import Report


def names() -> list[str]:
    """Return the names of all formats."""
    return sorted(module.name for module in iter_modules(__path__))


def text(name: str, report: "Report") -> str:
    """Return a report in the format of a name; raise ConfigError where there is none."""
    if name not in names():
        raise ConfigError(f"format must be one of {', '.join(names())}, got {name}; {nearest(name, names())}")
    written: str = import_module(f"{__name__}.{name}").text(report)
    return written
