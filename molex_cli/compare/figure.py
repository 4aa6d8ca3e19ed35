"""A figure of a report for a paper: PDF, SVG or PNG, by the name of its file."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.compare import forest, paper_panels
from molex_cli.compare.effects import Effect
from molex_cli.compare.layout import Report
from molex_cli.compare.paper import line_panels
from molex_cli.compare.seed_scores import seed_scores
from molex_cli.errors import ConfigError, nearest
from molex_cli.records import unwritable
from molex_cli.records.partial import remove_stale, renamed_when_whole
from molex_cli.runtime.streams import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".svg", ".png")
COLUMN = 3.3  # inches: a column of a paper
WIDTHS = (2.0, 20.0)
SIZE = 7.0  # points of the text
DOTS = 600  # for an inch, of a PNG
FONT = "DejaVu Sans"  # comes with matplotlib
# TrueType in PDF, as publishers ask for; outlines in SVG, which look the same everywhere.
SETTINGS = {"font.family": FONT, "pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "molex"}
METADATA = {
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}


def require(path: Path, width: float = COLUMN) -> None:
    """Raise ConfigError unless a file's name says what to write, and a width in inches can be drawn."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--figure must be a file of {', '.join(SUFFIXES)}, got {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--figure must be a file in a folder that is there, got {path}")
    least, most = WIDTHS
    if not least <= width <= most:
        raise ConfigError(f"--figure-width must be {least:g} to {most:g} inches, got {width:g}")


def write(report: Report, path: Path, width: float = COLUMN, kind: str = "differences") -> None:
    """Write a figure, of a width in inches; raise ConfigError where there is nothing to draw or no place."""
    require(path, width)
    if kind not in KINDS:
        raise ConfigError(f"a figure must be one of {', '.join(KINDS)}, got {kind}; {nearest(kind, KINDS)}")
    content = _content(lambda: KINDS[kind](report, width, SIZE), path.suffix.lower())
    try:
        remove_stale(path.parent, path.name)
        with renamed_when_whole(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise unwritable(str(path), error, "--figure must be a file") from None


def _differences(report: Report, width: float, size: float) -> "Figure":
    effects = [_printable(each) for each in report.differences()]
    if not forest.drawn(effects):
        raise ConfigError("--figure must have differences to draw, got none: no two arms of a column share a seed")
    return forest.forest(effects, width, size)


def _curves(report: Report, width: float, size: float) -> "Figure":
    return line_panels(paper_panels.curves(report), width, size)


def _rates(report: Report, width: float, size: float) -> "Figure":
    return line_panels(paper_panels.rates(report), width, size)


KINDS: dict[str, Callable[[Report, float, float], "Figure"]] = {
    "differences": _differences,
    "scores": seed_scores,
    "curves": _curves,
    "rates": _rates,
}
"""How each kind of figure is drawn, of a width in inches and text of a size in points."""


def _content(drawn: "Callable[[], Figure]", suffix: str) -> bytes:
    import matplotlib
    from matplotlib.text import Text

    buffer = BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure = drawn()
        for artist in figure.findobj():
            artist.set_gid(None)  # a tooltip of the page
        for text in figure.findobj(Text):
            text.set_text(_with_glyphs(text.get_text()))
        figure.savefig(buffer, format=suffix[1:], dpi=DOTS, metadata=METADATA[suffix])
    return buffer.getvalue()


def _printable(effect: Effect) -> Effect:
    """Return an effect of whose texts every letter has a glyph; one that the font lacks is its code point, `U+4E2D`."""
    return replace(
        effect,
        column=_with_glyphs(effect.column),
        one=_with_glyphs(effect.one),
        other=_with_glyphs(effect.other),
        metric=_with_glyphs(effect.metric),
        verdict=_with_glyphs(effect.verdict),
    )


def _with_glyphs(text: str) -> str:
    known = _glyphs()
    return "".join(c if ord(c) in known or c.isspace() else f"U+{ord(c):04X}" for c in visible(text))


@cache
def _glyphs() -> frozenset[int]:
    """Return the letters that the font has."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(FONT)).get_charmap())
