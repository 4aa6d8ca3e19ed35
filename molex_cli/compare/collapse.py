"""Seeds that collapsed: what they count as, and what may be concluded beside them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from molex_cli.compare.loading import Run
from molex_cli.metrics.base import ByExample, Metric
from molex_cli.statistics.collapse import most_collapses

if TYPE_CHECKING:
    from molex_cli.compare.table import Cell

ENOUGH_SEEDS = 8  # fewer say nothing of two arms of which one collapses now and then
CONSTANT = "all predictions are the same"


def has_collapsed(run: Run, which: str, metric: Metric) -> bool:
    """Return whether a seed learned nothing: an undefined score, constant predictions, no better than a constant."""
    score = run.score(which, metric.name)
    if score is None or (which == "last" and CONSTANT in run.record.degenerate):
        return True
    constant = run.record.scores.get("constant", {}).get(metric.name)
    if constant is None or metric.by_example is not ByExample.right_or_wrong:
        return score == metric.when_undefined and metric.by_example is ByExample.jackknife
    return not metric.better(score, constant)


def is_undecided(column: Sequence["Cell"], seeds: int) -> bool:
    """Return whether an arm of a column collapsed and two of its arms have too few seeds in common to be judged."""
    return seeds < ENOUGH_SEEDS and any(cell.collapsed for cell in column)


def caveat(one: "Cell", other: "Cell", seeds: int) -> str:
    """Return what a difference rests on where neither arm collapsed, but seeds are too few to tell that they do not."""
    if seeds >= ENOUGH_SEEDS or one.collapsed or other.collapsed:
        return ""
    fewest = min(len(cell.by_seed) for cell in (one, other))
    return f"when it trains: 0 of {fewest} seeds collapsed, up to {100 * most_collapses(0, fewest):.0f} % may"


def counted(cells: Sequence["Cell"]) -> str:
    """Return how many of an arm's seeds collapsed, and how often that may happen at most."""
    collapsed, seeds = sum(len(cell.collapsed) for cell in cells), sum(len(cell.by_seed) for cell in cells)
    return f"{collapsed}/{seeds}, ≤ {100 * most_collapses(collapsed, seeds):.0f} %"
