"""Line charts for a paper: curves of training, and scores over a setting.

Arms differ in colour, marker and dashes, so that a chart can be printed in grey.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from molex_cli.compare import plots
from molex_cli.compare.forest import LEADING, LETTER, wrapped
from molex_cli.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", ":", "-.")
MOST_ARMS = 12  # of a chart with lines: more cannot be told apart
MOST_PANELS = 6
SHIFT = 0.3  # of the way to the next value, for the bars of all arms
PANEL = 0.62  # height of a chart, in its width


@dataclass(frozen=True)
class Style:
    """How the lines and marks of an arm are drawn."""

    number: int
    size: float
    """Of the text, in points."""

    @property
    def line(self) -> dict[str, Any]:
        """Return what matplotlib draws an arm's line by; marks are hollow once all have been used."""
        colour = plots.COLOURS[self.number % len(plots.COLOURS)]
        return {
            "color": colour,
            "linestyle": DASHES[self.number % len(DASHES)],
            "linewidth": self.size / 6,
            "marker": MARKERS[self.number % len(MARKERS)],
            "markersize": self.size / 2,
            "markerfacecolor": colour if self.number < len(MARKERS) else plots.BACK,
        }


@dataclass(frozen=True)
class Series:
    """A line of a chart: means between the lowest and the highest of several seeds."""

    name: str
    x: Sequence[float]
    values: Sequence[Sequence[float]]
    """At each x."""

    @property
    def means(self) -> list[float]:
        """Return the mean at each x."""
        return [sum(values) / len(values) for values in self.values]


@dataclass(frozen=True)
class Panel:
    """A chart of one column."""

    title: str
    x: str
    y: str
    series: Sequence[Series]
    note: str = ""
    ticks: Mapping[float, str] | None = None
    """Where x is a setting: its values, by where they are drawn."""


def line_panels(panels: Sequence[Panel], width: float, size: float) -> "Figure":
    """Return charts below each other, with one legend; raise ConfigError where they are too many."""
    if len(panels) > MOST_PANELS:
        raise ConfigError(f"--figure must have at most {MOST_PANELS} columns to draw, got {len(panels)}; compare fewer")
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    letters = int(0.38 * 72 * width / LETTER / size)
    labels = [wrapped(name, letters) for name in names]
    rows = sum(max(each.count("\n") + 1 for each in labels[i : i + 2]) for i in range(0, len(labels), 2))
    high = PANEL * width * len(panels) + (rows + 1) * LEADING * size / 72
    figure = plots.empty(width, high)
    for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        for series in panel.series:
            number = names.index(series.name)
            if panel.ticks is None:
                _curve(axes, series, Style(number, size).line)
            else:
                _beside(axes, series, Style(number, size).line, _shift(panel.ticks, number, len(names)))
        _label(axes, panel, width, size)
    _legend(figure, [Style(i, size).line for i in range(len(names))], labels, size)
    return figure


def _curve(axes: Any, series: Series, look: Mapping[str, Any]) -> None:
    """Draw means in a band from the lowest to the highest seed."""
    if any(len(values) > 1 for values in series.values) and len(series.x) > 1:
        low, high = list(map(min, series.values)), list(map(max, series.values))
        axes.fill_between(series.x, low, high, color=look["color"], alpha=0.14, linewidth=0)
    axes.plot(series.x, series.means, markevery=max(1, len(series.x) // 8), **look)


def _beside(axes: Any, series: Series, look: Mapping[str, Any], shift: float) -> None:
    """Draw means with a bar from the lowest to the highest seed, beside those of other arms."""
    places = [x + shift for x in series.x]
    axes.vlines(places, list(map(min, series.values)), list(map(max, series.values)), look["color"], linewidth=0.7)
    axes.plot(places, series.means, **look)


def _shift(ticks: Mapping[float, str], number: int, arms: int) -> float:
    """Return how far an arm is drawn beside a value, so that bars do not hide each other."""
    nearest = min((after - before for before, after in pairwise(sorted(ticks))), default=0.0)
    return SHIFT * nearest * ((number + 0.5) / arms - 0.5)


def _label(axes: Any, panel: Panel, width: float, size: float) -> None:
    from matplotlib.ticker import MaxNLocator

    letters = int(0.75 * 72 * width / LETTER / size)
    axes.set_title(wrapped(panel.title, letters), fontsize=size, fontweight="bold", loc="left")
    axes.set_xlabel("\n".join(filter(None, [panel.x, wrapped(panel.note, letters)])), fontsize=size)
    axes.set_ylabel(wrapped(panel.y, letters // 2), fontsize=size)
    axes.tick_params(labelsize=size, length=2)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=plots.GRID, linewidth=0.4)
    if panel.ticks is None:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        ticks = _apart(panel.ticks, 0.7 * 72 * width, LETTER * size)
        axes.set_xticks(list(ticks), labels=list(ticks.values()))
        axes.margins(x=0.08)


def _apart(ticks: Mapping[float, str], room: float, letter: float) -> dict[float, str]:
    """Return the ticks whose labels have room beside the one before, on an axis of so many points."""
    reach = (max(ticks) - min(ticks)) or 1.0
    kept: dict[float, str] = {}
    for place, label in sorted(ticks.items()):
        last = max(kept, default=None)
        needed = 0.0 if last is None else (len(label) + len(kept[last]) + 2) / 2 * letter
        if last is None or (place - last) / reach * room >= needed:
            kept[place] = label
    return kept


def _legend(figure: "Figure", looks: Sequence[Mapping[str, Any]], labels: Sequence[str], size: float) -> None:
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], label=label, **look) for label, look in zip(labels, looks, strict=True)]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False, fontsize=size, handlelength=3)
