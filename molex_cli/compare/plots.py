"""Figures as files: drawn by matplotlib, without its global state, so that they can be drawn in any process."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_INCHES = 0.36
LETTER_INCHES = 0.085  # of a title
STYLES = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"))


def heat_map(
    title: str,
    rows: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    columns: str = "expert",
    names: Sequence[str] = (),
) -> "Figure":
    """Return cells coloured by value, columns numbered or named; rows may differ in length, NaN leaves a cell empty."""
    from matplotlib.figure import Figure

    width = max((len(row) for row in values), default=1)
    full = [[*row, *[math.nan] * (width - len(row))] for row in values]
    wide = max(2.2 + CELL_INCHES * width, LETTER_INCHES * len(title))
    figure = Figure(figsize=(wide, 1.5 + CELL_INCHES * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(full, cmap="viridis", aspect="equal")
    known = [value for row in values for value in row if not math.isnan(value)] or [0.0]
    bright = min(known) + 0.6 * (max(known) - min(known))
    figure.suptitle(title, fontsize=9)
    axes.set_xlabel(columns)
    if names:
        axes.set_xticks(range(width), labels=list(names), rotation=45, ha="right", fontsize=7)
    else:
        axes.set_xticks(range(width))
    axes.set_yticks(range(len(rows)), labels=list(rows))
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    for i, row in enumerate(full):
        for j, value in enumerate(row):
            if not math.isnan(value):
                colour = "black" if value > bright else "white"
                axes.text(
                    j,
                    i,
                    f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=6,
                    color=colour,
                )
    return figure


def line_chart(
    title: str,
    lines: Mapping[tuple[str, str], Sequence[tuple[float, float]]],
    levels: Mapping[tuple[str, str], float],
    *,
    x: str,
    y: str,
) -> "Figure":
    """Return lines through points and horizontal lines; the first name chooses the colour, the second the style."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(name for name, _ in [*lines, *levels]))}
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(dict.fromkeys(name for _, name in lines))}
    for (colour, style), points in lines.items():
        dash, marker = styles[style]
        across, up = zip(*sorted(points), strict=True)
        axes.plot(across, up, dash, marker=marker, color=colours[colour], label=f"{colour}, {style}")
    for (colour, name), level in levels.items():
        axes.axhline(level, linestyle=":", linewidth=1.2, color=colours[colour], label=f"{colour}, {name}")
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.set_xticks(sorted({across for points in lines.values() for across, _ in points}))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return figure


def png(figure: "Figure") -> BytesIO:
    """Return the figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    buffer.seek(0)
    return buffer
