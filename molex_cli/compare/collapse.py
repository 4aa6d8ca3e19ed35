"""Seeds that collapsed: what they count as, and what may be concluded beside them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from molex_cli.compare.loading import Run
from molex_cli.metrics.base import ByExample, Metric
from molex_cli.statistics.collapse import most_collapses

if TYPE_CHECKING:
    from molex_cli.compare.table import Cell

ENOUGH_SEEDS = 8  # fewer say nothing of two arms of which one collapses now and then
CONSTANT = "all predictions are the same"
NO_BETTER = "its score is no better than a constant prediction's"


def has_collapsed(run: Run, which: str, metric: Metric) -> bool | None:
    """Return whether a seed learned nothing: an undefined score, constant predictions, no better than a constant.

    Of a run with stages, in any of them. None where the record does not tell.
    """
    score = run.score(which, metric.name)
    if score is None or _is_degenerate(run, which, metric):
        return True
    constant = run.record.scores.get("constant", {}).get(metric.name)
    if metric.by_example is ByExample.jackknife:
        if metric.higher_is_better and -math.inf < metric.low < 0:  # a constant has the middle of the range
            return score <= metric.undefined
        return score in (metric.undefined, constant)
    if constant is None or metric.by_example is not ByExample.right_or_wrong:
        return None
    return not metric.better(score, constant)


def why(run: Run, which: str, metric: Metric) -> list[tuple[str, str]]:
    """Return why a run says little: pairs of collapsed or degenerate and a reason."""
    collapsed = has_collapsed(run, which, metric)
    kind, reasons = ("collapsed", [NO_BETTER]) if collapsed else ("degenerate", [])
    return [(kind, reason) for reason in run.record.degenerate or reasons]


def _is_degenerate(run: Run, which: str, metric: Metric) -> bool:
    """Return whether the record says so of these predictions; it says it of the last ones."""
    one, last = run.record.evaluated(which), run.record.evaluated("last")
    if one is None or last is None or one.get("step") != last.get("step"):
        return False
    reasons = {why.partition(" in ")[0] for why in run.record.degenerate}  # ... in STAGE
    return not reasons.isdisjoint({CONSTANT, f"{metric.name} is undefined"})


def is_undecided(column: Sequence["Cell"], seeds: int) -> bool:
    """Return whether an arm of a column collapsed and two of its arms have too few seeds in common to be judged."""
    return seeds < ENOUGH_SEEDS and any(cell.collapsed for cell in column)


def caveat(one: "Cell", other: "Cell", seeds: int) -> str:
    """Return what a difference rests on where neither arm collapsed, but seeds are too few to tell that they do not."""
    arms = (one, other)
    if seeds >= ENOUGH_SEEDS or any(cell.collapsed or not cell.tells_collapses for cell in arms):
        return ""
    fewest = min(len(cell.by_seed) for cell in arms)
    return f"when it trains: 0 of {fewest} seeds collapsed, up to {100 * most_collapses(0, fewest):.0f} % may"


def counted(cells: Sequence["Cell | None"]) -> str:
    """Return how many of an arm's seeds collapsed in each column, and how often that may happen at most in the worst.

    A question mark stands where records do not tell, a dash where the arm has no runs.
    """
    known = [cell for cell in cells if cell and cell.tells_collapses]
    worst = max((cell.most_collapses for cell in known), default=0.0)
    bound = f"{'worst ' * (len(cells) > 1)}≤ {100 * worst:.0f} %" if known else ""
    return ", ".join(filter(None, [*map(_count, cells), bound]))


def _count(cell: "Cell | None") -> str:
    if cell is None:
        return "–"
    return f"{len(cell.collapsed)}/{len(cell.by_seed)}" if cell.tells_collapses else "?"
