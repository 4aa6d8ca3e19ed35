"""Forest plots: a row for each difference, with its interval beside a line at zero."""

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from molex_cli.compare import plots
from molex_cli.compare.effects import Effect, sentence
from molex_cli.runtime.streams import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 48  # differences: more would not fit a page of paper
LEADING, GAP = 1.25, 0.6  # height of a line and room between rows, in sizes of the text
LETTER = 0.6  # width of a letter, in sizes of the text
SHARE = 0.42  # of the width, for names
MOST_LINES = 4  # of a name
BREAKS = re.compile(r"(?<=[\s_=/,:(-])(?!\d)|(?<=\.)(?!\d)")
REACH = 3  # times the median half of an interval: what reaches further is cut, with an arrow


@dataclass(frozen=True)
class Look:
    """How a verdict is drawn."""

    colour: str
    marker: str
    is_full: bool

    @property
    def style(self) -> dict[str, Any]:
        """Return what matplotlib draws the marker by."""
        fill = self.colour if self.is_full else plots.BACK
        return {"color": self.colour, "marker": self.marker, "markerfacecolor": fill}


# By the words that verdicts begin with.
LOOKS = {
    "significant": Look(plots.COLOURS[0], "o", True),
    "supported": Look(plots.COLOURS[0], "o", True),
    "contradicted": Look(plots.COLOURS[1], "s", True),
    "different": Look(plots.COLOURS[0], "o", True),
    "not significant": Look(plots.COLOURS[7], "o", False),
    "undecided": Look(plots.COLOURS[1], "D", False),
}
OTHER = Look(plots.COLOURS[7], "^", False)


@dataclass(frozen=True)
class Row:
    """A line of the plot: the name of a column, or a difference."""

    label: str
    effect: Effect | None = None

    @property
    def height(self) -> float:
        """Return the height, in sizes of the text."""
        return (self.label.count("\n") + 1) * LEADING + GAP


def drawn(effects: Sequence[Effect]) -> list[Effect]:
    """Return the differences that have an estimate; of too many the best of each column."""
    known = [each for each in effects if math.isfinite(each.estimate)]
    best = sorted(known, key=lambda one: -one.estimate if one.higher_is_better else one.estimate)
    ranked = sorted((place, id(each)) for own in _by_column(best).values() for place, each in enumerate(own))
    kept = {one for _, one in ranked[:MOST]}
    return [each for each in known if id(each) in kept]


def forest(effects: Sequence[Effect], width: float, size: float) -> "Figure":
    """Return the plot of differences, of a width in inches, with text of a size in points; a panel for each unit."""
    shown = drawn(effects)
    letters = int(72 * width / LETTER / size)  # of a line
    panels = {label: list(_rows(own, letters)) for label, own in _by_unit(shown).items()}
    heights = [sum(row.height for row in rows) for rows in panels.values()]
    looks = {_name(each.verdict): look_of(each.verdict) for each in shown}
    below = 5 * len(panels) + 1.5 * math.ceil(len(looks) / 2) + 2
    figure = plots.empty(width, (sum(heights) + below) * size / 72)
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (label, rows) in zip(grid[:, 0], panels.items(), strict=True):
        _panel(axes, rows, size)
        parts = [*label, _left_out(effects, shown)] if axes is grid[-1, 0] else label
        lines = [wrapped(part, int(letters * (1 - SHARE))) for part in parts]
        axes.set_xlabel("\n".join(filter(None, lines)), fontsize=size)
    _legend(figure, looks, size)
    return figure


def _left_out(effects: Sequence[Effect], shown: Sequence[Effect]) -> str:
    """Return a line on what is not drawn, and why; nothing if all is."""
    unknown = sum(not math.isfinite(each.estimate) for each in effects)
    reasons = ["without an estimate"] * (unknown > 0) + ["the worst"] * (len(effects) - unknown > len(shown))
    number = len(effects) - len(shown)
    return f"not drawn: {number} of {len(effects)} differences, {' or '.join(reasons)}" if reasons else ""


def look_of(verdict: str) -> Look:
    """Return how a verdict is drawn."""
    return LOOKS.get(_name(verdict), OTHER)


def _name(verdict: str) -> str:
    """Return what the legend calls a verdict."""
    return next((name for name in LOOKS if verdict.startswith(name)), verdict)


def _by_column(effects: Sequence[Effect]) -> dict[str, list[Effect]]:
    found: dict[str, list[Effect]] = {}
    for each in effects:
        found.setdefault(each.column, []).append(each)
    return found


def _by_unit(effects: Sequence[Effect]) -> dict[tuple[str, str], list[Effect]]:
    """Return the differences that share an axis, by its label of two parts."""
    found: dict[tuple[str, str], list[Effect]] = {}
    for each in effects:
        better = "(higher is better)" if each.higher_is_better else "(lower is better)"
        found.setdefault((f"difference in {each.metric or 'score'}", better), []).append(each)
    return found


def _rows(effects: Sequence[Effect], letters: int) -> Iterator[Row]:
    """Yield the rows of a panel: each column's name, with the arm if all are compared with one, and its differences."""
    for column, own in _by_column(effects).items():
        has_one = len({each.other for each in own}) == 1
        yield Row(wrapped(f"{column}: difference from {own[0].other}" if has_one else column, letters))
        for each in own:
            name = each.one if has_one else f"{each.one} − {each.other}"
            yield Row(wrapped(name, int(SHARE * letters)), each)


def wrapped(text: str, letters: int) -> str:
    """Return text in lines that end between words or the parts of a setting's name."""
    lines = [""]
    for part in BREAKS.split(visible(text).replace("\n", " ")):
        for piece in textwrap.wrap(part, letters, drop_whitespace=False):
            if len(lines[-1] + piece.rstrip()) > letters:
                lines.append("")
            lines[-1] += piece
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - 1] = f"{lines[MOST_LINES - 1][: letters - 1]}…"
    return "\n".join(line.strip() for line in lines[:MOST_LINES])


def _panel(axes: Any, rows: Sequence[Row], size: float) -> None:
    from matplotlib.ticker import MaxNLocator

    limits = _limits([row.effect for row in rows if row.effect])
    room = 0.05 * (limits[1] - limits[0])
    axes.set(xlim=(limits[0] - room, limits[1] + room), ylim=(-sum(row.height for row in rows), 0))
    top, names, zeros = 0.0, dict[float, str](), list[list[float]]()
    for row in rows:
        y, bottom = top - row.height / 2, top - row.height
        if row.effect:
            _interval(axes, row.effect, y, limits, size)
            names[y], zeros[-1][1] = row.label, bottom
        else:
            _heading(axes, row.label, y, size)
            zeros.append([bottom, bottom])
        top = bottom
    for ends in zeros:  # no line through a heading
        axes.plot([0, 0], ends, color="black", linewidth=0.7, zorder=1)
    axes.set_yticks(list(names), labels=list(names.values()))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=size, length=2)
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "top", "right"]].set_visible(False)


def _heading(axes: Any, label: str, y: float, size: float) -> None:
    """Write a line over the whole width of the figure, names included."""
    from matplotlib.transforms import blended_transform_factory

    place = blended_transform_factory(axes.figure.transFigure, axes.transData)
    heading = axes.text(0.01, y, label, transform=place, va="center", fontsize=size, fontweight="bold")
    heading.set_in_layout(False)


def _limits(effects: Sequence[Effect]) -> tuple[float, float]:
    """Return what an axis shows: zero, every estimate, and intervals as far as they are not much longer than others."""
    estimates = [0.0, *(each.estimate for each in effects)]
    halves = [half for each in effects if math.isfinite(half := (each.high - each.low) / 2)]
    reach = REACH * median(halves) if halves else max(map(abs, estimates)) or 1.0
    low = min(estimates + [max(each.low, min(estimates) - reach) for each in effects])
    high = max(estimates + [min(each.high, max(estimates) + reach) for each in effects])
    return (low, high) if low < high else (-1.0, 1.0)


def _interval(axes: Any, effect: Effect, y: float, limits: tuple[float, float], size: float) -> None:
    look = look_of(effect.verdict)
    low, high = max(effect.low, limits[0]), min(effect.high, limits[1])
    told = visible(sentence(effect))
    axes.plot([low, high], [y, y], color=look.colour, linewidth=size / 7, solid_capstyle="butt", gid=told)
    for end, bound, arrow in ((low, effect.low, "<"), (high, effect.high, ">")):
        if end != bound:
            axes.plot([end], [y], arrow, color=look.colour, markersize=size / 2)
    axes.plot([effect.estimate], [y], markersize=size / 2, gid=told, **look.style)


def _legend(figure: "Figure", looks: dict[str, Look], size: float) -> None:
    from matplotlib.lines import Line2D

    letters = int(0.35 * 72 * figure.get_figwidth() / LETTER / size)
    keys = []
    for name, look in looks.items():
        style = {"markersize": size / 2, "linewidth": size / 7, **look.style}
        keys.append(Line2D([], [], label=wrapped(name, letters), **style))
    figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False, fontsize=size)
