"""Curves and scatters: drawn by matplotlib, without its global state, so that any process can draw them.

matplotlib is imported when something is drawn: it takes a second that tables and --help need not wait for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from molex_cli.compare.axes import beside, decades, engineering, label_apart, limit, moved, place, plain
from molex_cli.runtime.streams import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHART_INCHES = (4.8, 3.3)
ANYTHING = (-math.inf, math.inf)  # limits of an axis that has none
COLOURS = ("#0b61a4", "#b8480a", "#23733a", "#8a2be2", "#b3124a", "#6b5900", "#007a80", "#555555")
STYLES = (("-", "o"), ("--", "s"), (":", "D"))
GRID = "#b0b0b0"
BACK = "#fefefe"  # what a hollow marker is filled with: the page's own back
LOOKS = len(COLOURS) * len(STYLES)  # so many series can be told apart
LONGEST_LABEL = 40  # letters: a longer one would leave no room for what it names
LOG_FROM = 3  # times the least: a shorter axis would have too few ticks as a logarithmic one
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


def line_chart(
    title: str,
    lines: Sequence[Line],
    levels: Sequence[Level] = (),
    *,
    x: str,
    y: str,
    legend: bool = True,
    limits: tuple[float, float] = ANYTHING,
    from_zero: bool = False,
) -> "Figure":
    """Return curves with their bands, and horizontal lines; `limits` are those of what is drawn upwards.

    A curve of one value is a dot with a bar. Dots and curves that would be hidden by others are moved sideways.
    """
    figure, axes = titled(*CHART_INCHES, title)
    known = [
        (at, up)
        for line in lines
        for each in (line.y, line.low, line.high)
        for at, up in zip(line.x, each, strict=False)
    ]
    axes.update_datalim([*known, *((known[0][0], level.y) for level in levels if known)])
    axes.autoscale_view()
    if from_zero:
        axes.set_xlim(0, 1.05 * max(1, *(at for line in lines for at in line.x)))
    limit(axes, limits)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim(), xlabel=label(x), ylabel=label(y))
    for line, by in zip(lines, _moves(axes, lines), strict=True):
        _curve(axes, line, [moved(axes, at, by) for at in line.x])
    for level in levels:
        colour = COLOURS[level.colour % len(COLOURS)]
        axes.axhline(
            level.y, linestyle=":", linewidth=1.2, color=colour, label=label(level.name), gid=visible(level.name)
        )
    label_apart(axes.xaxis, plain)
    _rule(axes)
    if legend:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _moves(axes: Any, lines: Sequence[Line]) -> list[float]:
    """Return how far each curve is moved sideways: those of one value, and those that are the same as another."""
    values = [(tuple(line.x), tuple(line.y)) for line in lines]
    moves = beside([place(axes, line.x[-1], line.y[-1]) for line in lines])
    return [
        by if len(line.x) == 1 or values.count(own) > 1 else 0.0
        for line, own, by in zip(lines, values, moves, strict=True)
    ]


def _curve(axes: Any, line: Line, x: Sequence[float]) -> None:
    colour, (dash, marker) = COLOURS[line.colour % len(COLOURS)], STYLES[line.style % len(STYLES)]
    if line.low and len(x) == 1:
        axes.plot([*x, *x], [line.low[0], line.high[0]], color=colour)
    elif line.low:
        axes.fill_between(x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    shown = marker if len(x) <= MOST_MARKERS else None
    size = 7 if len(x) == 1 else 4
    axes.plot(
        x, line.y, dash, marker=shown, markersize=size, color=colour, label=label(line.name), gid=visible(line.name)
    )


def scatter(
    title: str,
    points: Sequence[Point],
    others: Sequence[Point] = (),
    *,
    x: str,
    y: str,
    logarithmic: bool = False,
    higher_is_better: bool = True,
    limits: tuple[float, float] = ANYTHING,
) -> "Figure":
    """Return points with intervals, others in grey, and the front of those that none beats in both cost and score.

    `limits` are those of what is drawn upwards. Points that would be hidden by others are moved sideways.
    """
    from matplotlib.ticker import NullLocator

    figure, axes = titled(*CHART_INCHES, title)
    known = [p.x for p in (*points, *others)]
    if is_wide := logarithmic and max(known, default=1) > LOG_FROM * min(known, default=1):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.update_datalim([(p.x, up) for p in (*points, *others) for up in (p.y, p.low, p.high)])
    axes.autoscale_view()
    limit(axes, limits)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim(), xlabel=label(x), ylabel=label(y))
    if others:
        axes.plot([p.x for p in others], [p.y for p in others], "o", markersize=3, color=GRID)
    best = front([*points, *others], higher_is_better=higher_is_better)
    axes.plot(
        [p.x for p in best], [p.y for p in best], "--", color="black", linewidth=1, gid="no arm is better and cheaper"
    )
    moves = beside([place(axes, p.x, p.y) for p in points])
    for i, (p, by) in enumerate(zip(points, moves, strict=True)):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": STYLES[i // len(COLOURS) % len(STYLES)][1]}
        at = moved(axes, p.x, by)
        axes.plot([at, at], [p.low, p.high], color=style["color"])
        axes.plot([at], [p.y], **style, linestyle="", markersize=8, gid=visible(p.name))
    label_apart(axes.xaxis, engineering, decades(min(known), max(known)) if is_wide else None)
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


def titled(wide: float, high: float, title: str) -> "tuple[Figure, Any]":
    """Return an empty figure with its axes."""
    figure = empty(wide, high)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure, figure.add_subplot()


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return a text as a picture shows it."""
    text = visible(text).replace("\n", " ")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _rule(axes: Any) -> None:
    """Leave lines only where they help to read a value."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    label_apart(axes.yaxis, plain)
