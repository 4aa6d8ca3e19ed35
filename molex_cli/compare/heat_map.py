"""Heat maps: cells coloured by value with the value in each, and a scale that says what the colours mean."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from molex_cli.compare.plots import LONGEST_LABEL, label, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_INCHES = 0.36
LETTER_INCHES, SMALL_LETTER_INCHES = 0.085, 0.062  # of a title, of the scale's
DARK, LIGHT = "#020202", "#ffffff"  # numbers on a bright or a dark cell; pure black is the page's own text colour
STEPS = 5  # of the scale
LUMINANCE = (0.2126, 0.7152, 0.0722)  # what red, green and blue add to a colour's light, by WCAG 2
BELOW, SCALE = 0.9, 1.05  # where the scale begins under the cells, and its height, in cells
USAGE = "share of the routing x number of experts (1: uniform)"


def usage_map(title: str, rows: Sequence[str], usage: Sequence[Sequence[float]]) -> "Figure":
    """Return the use of experts by layer: shares times the number of experts, which layers of any size have alike."""
    relative = [[share * len(shares) for share in shares] for shares in usage]
    return heat_map(title, rows, relative, middle=1.0, scale=USAGE)


def heat_map(
    title: str,
    rows: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    columns: str = "expert",
    names: Sequence[str] = (),
    middle: float | None = None,
    scale: str = "",
) -> "Figure":
    """Return cells coloured by value, columns numbered or named; rows may differ in length, NaN leaves a cell empty.

    With a middle, values below it are blue and those above it red. `scale` says what the values are.
    """
    rows, names = list(map(label, rows)), list(map(label, names))
    width, height = max([1, *map(len, values)]), max(1, len(rows))
    title = label(title, 3 * LONGEST_LABEL)
    left, above = (max(0.7, LETTER_INCHES * max(map(len, each), default=0)) for each in (rows, names))
    wide = left + max(CELL_INCHES * max(width, STEPS), SMALL_LETTER_INCHES * len(scale))
    wide = max(wide, LETTER_INCHES * len(title))
    figure, axes = titled(wide, above + CELL_INCHES * (height + BELOW + SCALE), title)
    colour = _Colours([v for row in values for v in row if not math.isnan(v)], middle)
    _draw_cells(axes, rows, names or [f"{columns} {i}" for i in range(width)], values, colour)
    _draw_scale(axes, height + BELOW, scale, colour)
    axes.set(aspect="equal", xlabel=columns, xlim=(0, max(width, STEPS)), ylim=(height + BELOW + SCALE, 0))
    _label_cells(axes, rows, names, width)
    return figure


def _label_cells(axes: Any, rows: Sequence[str], names: Sequence[str], width: int) -> None:
    """Write what the columns are above the cells, and what the rows are beside them."""
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    middles = [i + 0.5 for i in range(width)]
    if names:
        axes.set_xticks(middles, labels=names, rotation=45, ha="left", fontsize=7)
    else:
        axes.set_xticks(middles, labels=list(map(str, range(width))))
    axes.set_yticks([i + 0.5 for i in range(len(rows))], labels=rows)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)


class _Colours:
    """What colour a value has, and what colour can be read on it."""

    def __init__(self, values: Sequence[float], middle: float | None) -> None:
        from matplotlib import colormaps
        from matplotlib.colors import Normalize, TwoSlopeNorm

        self.low, self.high = min(values, default=0.0), max(values, default=0.0)
        if middle is None:
            self._map, self._place = colormaps["viridis"], Normalize(self.low, self.high)
        else:
            self.low, self.high = min(0.0, self.low), max(2 * middle, self.high)
            self._map, self._place = colormaps["RdBu_r"], TwoSlopeNorm(middle, self.low, self.high)
        self._middle = middle

    def steps(self) -> list[float]:
        """Return the values that the scale shows."""
        if self.low == self.high:
            return [self.low]
        if self._middle is not None:
            ends = self.low, self._middle, self.high
            return [ends[0], (ends[0] + ends[1]) / 2, ends[1], (ends[1] + ends[2]) / 2, ends[2]]
        return [self.low + (self.high - self.low) * i / (STEPS - 1) for i in range(STEPS)]

    def of(self, value: float) -> tuple[tuple[float, float, float], str]:
        """Return the colour of a cell and of the text in it, whose contrast is at least 4.5."""
        red, green, blue, _ = self._map(float(self._place(value)))
        bright = sum(share * _linear(each) for share, each in zip(LUMINANCE, (red, green, blue), strict=True))
        return (red, green, blue), DARK if bright > 0.18 else LIGHT


def _linear(channel: float) -> float:
    """Return the light of a channel of sRGB, as WCAG 2 defines it."""
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def _draw_cells(
    axes: Any, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], colour: _Colours
) -> None:
    """Draw each value as a coloured square with the value in it.

    The squares are shapes, not pixels: they stay sharp, and a page may show no embedded image.
    """
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if not math.isnan(value):
                _cell(axes, j, i, value, colour, f"{rows[i]}, {columns[j]}: {value:.3f}")


def _draw_scale(axes: Any, top: float, text: str, colour: _Colours) -> None:
    for i, value in enumerate(colour.steps()):
        _cell(axes, i, top, value, colour, f"scale: {value:.3g}")
    axes.text(0, top - 0.15, text or "scale", fontsize=7, va="bottom")


def _cell(axes: Any, x: float, y: float, value: float, colour: _Colours, about: str) -> None:
    from matplotlib.patches import Rectangle

    fill, ink = colour.of(value)
    axes.add_patch(Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, facecolor=fill, gid=about))
    text = f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7, color=ink)
