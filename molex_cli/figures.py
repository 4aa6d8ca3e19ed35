"""Heat maps as files: drawn by matplotlib, without its global state, so that they can be drawn in any process."""

import math
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_INCHES = 0.36


def heat_map(
    title: str, rows: Sequence[str], values: Sequence[Sequence[float]], *, columns: str = "expert", digits: int = 2
) -> "Figure":
    """Return cells coloured by value; rows may differ in length, and NaN leaves a cell empty."""
    from matplotlib.figure import Figure

    width = max((len(row) for row in values), default=1)
    full = [[*row, *[math.nan] * (width - len(row))] for row in values]
    figure = Figure(figsize=(2.2 + CELL_INCHES * width, 1.2 + CELL_INCHES * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(full, cmap="viridis", aspect="equal")
    known = [value for row in values for value in row if not math.isnan(value)] or [0.0]
    bright = min(known) + 0.6 * (max(known) - min(known))
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(columns)
    axes.set_xticks(range(width))
    axes.set_yticks(range(len(rows)), labels=list(rows))
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    for i, row in enumerate(full):
        for j, value in enumerate(row):
            if not math.isnan(value):
                colour = "black" if value > bright else "white"
                axes.text(j, i, f"{value:.{digits}f}", ha="center", va="center", fontsize=6, color=colour)
    return figure


def png(figure: "Figure") -> BytesIO:
    """Return the figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    buffer.seek(0)
    return buffer
