"""The axes of charts: ticks that can be told apart, limits within what a score can be, points that hide no other."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

MOST_DIGITS = 12
MOST_TICKS = 7
SUBDIVIDED = 100  # times the least: a longer axis would have too many ticks between its powers of ten, or none at all
MARKER = 0.035  # width of a marker, as a share of an axis


def label_apart(axis: Any, written: Callable[[int], Callable[[float], str]], locator: Any = None) -> None:
    """Label the ticks of an axis with as few digits as tell them apart: `written(digits)` writes a tick."""
    from matplotlib.ticker import Formatter, MaxNLocator

    class Apart(Formatter):
        """Labels ticks together, for one alone does not tell how many digits it takes."""

        def __call__(self, value: float, pos: int | None = None) -> str:
            return written(3)(value)

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            labels: list[str] = []
            for digits in range(MOST_DIGITS):
                labels = [written(digits)(value) for value in values]
                if len(set(labels)) == len(set(values)):
                    break
            return labels

    # No steps of 2.5: as few digits as tell those apart would round them.
    axis.set_major_locator(locator or MaxNLocator(MOST_TICKS, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(Apart())


def plain(digits: int) -> Callable[[float], str]:
    """Return what writes a number with so many decimals."""
    return lambda value: f"{value + 0.0:.{digits}f}"


def engineering(digits: int) -> Callable[[float], str]:
    """Return what writes a number with at most so many decimals and k, M, G for thousands."""
    from matplotlib.ticker import EngFormatter

    written = EngFormatter(places=digits, sep="")
    return lambda value: re.sub(r"\.?0*(\D*)$", r"\1", text) if "." in (text := written(value)) else text


def decades(least: float, most: float) -> Any:
    """Return what places the ticks of a logarithmic axis: at powers of ten, of few also at their double and half."""
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1, 2, 5)) if most <= SUBDIVIDED * least else LogLocator(numticks=MOST_TICKS)


def limit(axes: Any, limits: tuple[float, float]) -> None:
    """Cut what the vertical axis shows to what a score can be; an end may be infinite."""
    low, high = axes.get_ylim()
    within = max(low, limits[0]), min(high, limits[1])
    if within[0] < within[1]:
        axes.set_ylim(within)


def beside(places: Sequence[tuple[float, float]]) -> list[float]:
    """Return for each point how far it is moved sideways, so that its marker hides none before it.

    Places and moves are shares of the axes.
    """
    taken: list[tuple[float, float]] = []
    moves: list[float] = []
    for x, y in places:
        tried = (sign * step * MARKER for step in range(len(places) + 1) for sign in (1, -1))
        free = next(move for move in tried if all(math.dist((x + move, y), each) >= 0.99 * MARKER for each in taken))
        taken.append((x + free, y))
        moves.append(free)
    return moves


def place(axes: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a point is drawn, as shares of the axes."""
    across, up = (axes.transScale + axes.transLimits).transform((x, y))
    return float(across), float(up)


def moved(axes: Any, x: float, by: float) -> float:
    """Return a place on the horizontal axis, moved by a share of it."""
    axis = axes.transScale + axes.transLimits
    low = axes.get_ylim()[0]
    return float(axis.inverted().transform((axis.transform((x, low))[0] + by, 0.0))[0]) if by else x
