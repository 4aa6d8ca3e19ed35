"""Which arm of a column is the best, and which are not significantly different from it, or from one that is named."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from molex_cli.compare.collapse import caveat, is_undecided
from molex_cli.compare.differences import Difference, difference
from molex_cli.statistics import multiplicity
from molex_cli.statistics.intervals import LEAST_SEEDS, SeedVariance, pooled_seed_variance

if TYPE_CHECKING:
    from molex_cli.compare.table import Cell, Comparison

ADJUSTMENTS = {"Holm": multiplicity.holm, "Benjamini-Hochberg": multiplicity.benjamini_hochberg}
ALPHA = 0.05


def judge(table: "Comparison") -> None:
    """Find the best of each column, compare every other arm with it (or with `against`), adjust, and mark.

    The best is chosen by the same runs, so its family is every pair of arms of a column that has a p. At the level of
    the family are also the differences that so many seeds would find.
    """
    tested: list[Cell] = []
    family = 0
    for col in table.cols:
        column = table.column(col)
        compared = _compared(column, table.against)
        tested += compared
        family += _with_p(compared) if table.against else _pairs_with_p(list(column.values()))
    adjusted = ADJUSTMENTS[table.adjust]([_p(cell) for cell in tested], family)
    for cell, p in zip(tested, adjusted, strict=True):
        assert cell.difference is not None
        cell.difference = replace(cell.difference, adjusted=p, level=ALPHA / max(1, family))
        if not cell.difference.is_significant(ALPHA):
            cell.difference = replace(cell.difference, caveat="")
            cell.is_close = table.against is None and not math.isnan(p) and not cell.difference.undecided


def pooled_variance(column: Sequence["Cell"]) -> SeedVariance | None:
    """Return the variance over seeds that the pairs of a column share; None where each pair has its own.

    It is pooled over the arms of enough seeds if these have the same ones, unless a seed of the column collapsed: its
    arm varies more than others.
    """
    arms = [cell for cell in column if len(cell.by_seed) >= LEAST_SEEDS]
    if len(arms) < 2 or any(cell.collapsed for cell in column):
        return None
    if len({tuple(cell.by_seed) for cell in arms}) > 1:
        return None
    return pooled_seed_variance(np.array([list(cell.by_seed.values()) for cell in arms]))


def _compared(column: Mapping[str, "Cell"], against: str | None) -> list["Cell"]:
    """Mark the best of a column; return the cells that are compared with it, or with the arm `against`."""
    best = _best(column)
    column[best].is_best = len(column[best].by_seed) > 1
    name = against or best
    if name not in column:
        return []
    base = column[name]
    cells = list(column.values())
    pooled = pooled_variance(cells)
    tested = [cell for cell in cells if cell is not base]
    for cell in tested:
        cell.compared_with = name
        cell.difference = judged_difference(cell, base, cells, pooled)
    return tested


def judged_difference(one: "Cell", other: "Cell", column: Sequence["Cell"], pooled: SeedVariance | None) -> Difference:
    """Return how an arm differs from another of its column, and what speaks against concluding from it."""
    found = difference(one, other, pooled)
    undecided = "undecided, collapses" if is_undecided(column, len(found.seeds)) else ""
    return replace(found, undecided=undecided, caveat=caveat(one, other, len(found.seeds)))


def _best(column: Mapping[str, "Cell"]) -> str:
    """Return the row of the highest mean (lowest, where low is better).

    A degenerate arm, or one of a single seed, only if there is no other.
    """

    def rank(row: str) -> tuple[bool, bool, float]:
        cell = column[row]
        sign = 1 if cell.metric.higher_is_better else -1
        return "degenerate" not in cell.notes, len(cell.by_seed) > 1, sign * cell.mean

    return max(column, key=rank)


def _p(cell: "Cell") -> float:
    return cell.difference.interval.p if cell.difference else math.nan


def _with_p(cells: Sequence["Cell"]) -> int:
    return sum(not math.isnan(_p(cell)) for cell in cells)


def _pairs_with_p(cells: Sequence["Cell"]) -> int:
    """Return how many pairs of arms have enough seeds in common; arms of the same seeds are counted together."""
    arms = Counter(frozenset(cell.by_seed) for cell in cells)
    same = sum(count * (count - 1) // 2 for seeds, count in arms.items() if len(seeds) >= LEAST_SEEDS)
    others = (arms[one] * arms[two] for one, two in combinations(arms, 2) if len(one & two) >= LEAST_SEEDS)
    return same + sum(others)
