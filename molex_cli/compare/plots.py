"""Heat maps, curves and scatters: drawn by matplotlib, without its global state, so that any process can draw them.

matplotlib is imported when something is drawn: it takes a second that tables and --help need not wait for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from molex_cli.runtime.streams import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_INCHES = 0.36
CHART_INCHES = (5.6, 3.6)
LETTER_INCHES = 0.085  # of a title
COLOURS = ("#0b61a4", "#b8480a", "#23733a", "#8a2be2", "#b3124a", "#6b5900", "#007a80", "#555555")
STYLES = (("-", "o"), ("--", "s"), (":", "D"))
GRID = "#b0b0b0"
BACK = "#fefefe"  # what a hollow marker is filled with: the page's own back
DARK, LIGHT = "#1c2024", "#ffffff"  # numbers on a bright or a dark cell
LOOKS = len(COLOURS) * len(STYLES)  # so many series can be told apart
LONGEST_LABEL = 40  # letters: a longer one would leave no room for what it names
MOST_MARKERS = 30  # a longer curve is drawn without


@dataclass(frozen=True)
class Line:
    """A curve, with a band around it where `low` and `high` are given."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    colour: int = 0
    style: int = 0
    """Of dashes and markers."""


@dataclass(frozen=True)
class Level:
    """A horizontal line."""

    name: str
    y: float
    colour: int = 0


@dataclass(frozen=True)
class Point:
    """One arm: x, and y with an interval."""

    name: str
    x: float
    y: float
    low: float
    high: float


def heat_map(
    title: str,
    rows: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    columns: str = "expert",
    names: Sequence[str] = (),
) -> "Figure":
    """Return cells coloured by value, columns numbered or named; rows may differ in length, NaN leaves a cell empty."""
    rows, names = list(map(_label, rows)), list(map(_label, names))
    width, height = max([1, *map(len, values)]), max(1, len(rows))
    title = _label(title, 3 * LONGEST_LABEL)
    left, below = (max(1.2, LETTER_INCHES * max(map(len, each), default=0)) for each in (rows, names))
    wide = max(left + CELL_INCHES * width, LETTER_INCHES * len(title))
    figure, axes = _figure(wide, below + CELL_INCHES * height, title)
    labels = names or [f"{columns} {i}" for i in range(width)]
    _draw_cells(axes, rows, labels, values)
    axes.set(aspect="equal", xlabel=columns, xlim=(0, width), ylim=(height, 0))
    middles = [i + 0.5 for i in range(width)]
    if names:
        axes.set_xticks(middles, labels=labels, rotation=45, ha="right", fontsize=7)
    else:
        axes.set_xticks(middles, labels=list(map(str, range(width))))
    axes.set_yticks([i + 0.5 for i in range(len(rows))], labels=rows)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    return figure


def _draw_cells(axes: Any, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> None:
    """Draw each value as a coloured square with the value in it, dark on bright colours and bright on dark ones.

    The squares are shapes, not pixels: they stay sharp, and a page may show no embedded image.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    cells = [(i, j, v) for i, row in enumerate(values) for j, v in enumerate(row) if not math.isnan(v)]
    low, high = min((v for *_, v in cells), default=0.0), max((v for *_, v in cells), default=0.0)
    share = Normalize(low, high)
    for i, j, value in cells:
        label = f"{rows[i]}, {columns[j]}: {value:.3f}"
        axes.add_patch(
            Rectangle((j + 0.03, i + 0.03), 0.94, 0.94, facecolor=colormaps["viridis"](share(value)), gid=label)
        )
        text = f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
        colour = DARK if value > low + 0.6 * (high - low) else LIGHT
        axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=7, color=colour)


def line_chart(
    title: str, lines: Sequence[Line], levels: Sequence[Level] = (), *, x: str, y: str, legend: bool = True
) -> "Figure":
    """Return curves with their bands, and horizontal lines."""
    figure, axes = _figure(*CHART_INCHES, title)
    for line in lines:
        colour, (dash, marker) = COLOURS[line.colour % len(COLOURS)], STYLES[line.style % len(STYLES)]
        if line.low:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        shown = marker if len(line.x) <= MOST_MARKERS else None
        axes.plot(
            line.x,
            line.y,
            dash,
            marker=shown,
            markersize=4,
            color=colour,
            label=_label(line.name),
            gid=visible(line.name),
        )
    for level in levels:
        colour = COLOURS[level.colour % len(COLOURS)]
        axes.axhline(
            level.y, linestyle=":", linewidth=1.2, color=colour, label=_label(level.name), gid=visible(level.name)
        )
    axes.set(xlabel=_label(x), ylabel=_label(y))
    _rule(axes)
    if legend:
        axes.legend(frameon=False, fontsize=8)
    return figure


def scatter(
    title: str,
    points: Sequence[Point],
    others: Sequence[Point] = (),
    *,
    x: str,
    y: str,
    logarithmic: bool = False,
    higher_is_better: bool = True,
) -> "Figure":
    """Return points with intervals, others in grey, and the front of those that none beats in both cost and score."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    figure, axes = _figure(*CHART_INCHES, title)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if others:
        axes.plot([p.x for p in others], [p.y for p in others], "o", markersize=3, color=GRID)
    best = front([*points, *others], higher_is_better=higher_is_better)
    axes.plot(
        [p.x for p in best], [p.y for p in best], "--", color="black", linewidth=1, gid="no arm is better and cheaper"
    )
    for i, p in enumerate(points):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": STYLES[i // len(COLOURS) % len(STYLES)][1]}
        axes.plot([p.x, p.x], [p.low, p.high], color=style["color"])
        axes.plot([p.x], [p.y], **style, linestyle="", markersize=8, gid=visible(p.name))
    axes.set(xlabel=_label(x), ylabel=_label(y))
    _rule(axes)
    return figure


def front(points: Sequence[Point], *, higher_is_better: bool) -> list[Point]:
    """Return the points for which no other is at least as cheap and at least as good, cheapest first."""
    sign = 1 if higher_is_better else -1
    found: list[Point] = []
    for p in sorted(points, key=lambda p: (p.x, -sign * p.y)):  # whatever beats a point comes before it
        if not found or sign * p.y > sign * found[-1].y or (p.x, p.y) == (found[-1].x, found[-1].y):
            found.append(p)
    return found


def png(figure: "Figure") -> BytesIO:
    """Return the figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    buffer.seek(0)
    return buffer


def empty(wide: float, high: float) -> "Figure":
    """Return a figure with nothing in it, of a size in inches."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class PlainFigure(Figure):
        """A figure in which no name is a formula: `$` is shown as it is."""

        def draw(self, renderer: Any) -> None:
            for text in self.findobj(Text):
                text.set_parse_math(False)
            super().draw(renderer)

    return PlainFigure(figsize=(wide, high), layout="constrained")


def _figure(wide: float, high: float, title: str) -> "tuple[Figure, Any]":
    """Return an empty figure with its axes."""
    figure = empty(wide, high)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure, figure.add_subplot()


def _label(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return a text as a picture shows it."""
    text = visible(text).replace("\n", " ")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _rule(axes: Any) -> None:
    """Leave lines only where they help to read a value."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
