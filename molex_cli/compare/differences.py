"""How one arm differs from another: on the seeds and, where they are known, the examples that both have."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from molex_cli.compare.loading import Run
from molex_cli.statistics import intervals, paired
from molex_cli.statistics.intervals import LEAST_SEEDS, Interval, SeedVariance
from molex_cli.statistics.power import detectable_effect, seeds_needed

if TYPE_CHECKING:
    from molex_cli.compare.table import Cell

Values = tuple[str, NDArray[np.float64]]
"""What identifies the examples of a run, and a value of each."""


@dataclass(frozen=True)
class Difference:
    """How one arm differs from another, on the seeds and examples that both have."""

    seeds: list[int]
    interval: Interval
    """Of the mean difference, and its p."""
    over: str
    """What the interval holds for: seeds, seeds and examples, or the examples of one seed."""
    variance: str
    """Over seeds: that of the pair, or the one pooled over the column where that is larger."""
    permutation: float
    """p of the exact paired permutation test over seeds; it cannot be below 2 / 2**seeds."""
    mcnemar: float | None
    """p of McNemar's exact test over the examples that only one arm gets right; of a single seed alone."""
    adjusted: float = math.nan
    """The interval's p, adjusted for all tests of the table."""
    undecided: str = ""
    """Why nothing is concluded from the p."""
    caveat: str = ""
    """What the conclusion rests on."""
    level: float = 0.05
    """Of the strictest test of the family."""

    def is_significant(self, alpha: float) -> bool:
        """Return whether a difference may be called one at a level."""
        return not self.undecided and self.adjusted < alpha

    @property
    def detectable(self) -> float:
        """Return the smallest difference that so many seeds find with 80 % power at the level; inf if unknown."""
        return detectable_effect(self.interval, self.level) if len(self.seeds) >= LEAST_SEEDS else math.inf

    def needed(self, effect: float) -> int | None:
        """Return how many seeds find a difference of this size; None where more seeds alone would not."""
        return seeds_needed(effect, self.interval, len(self.seeds), self.level)


def difference(one: "Cell", other: "Cell", pooled: SeedVariance | None = None) -> Difference:
    """Return how `one` differs from `other` on what both have; `pooled` is the variance that their column shares.

    It is of arms with enough seeds, and counts for no pair of fewer.
    """
    seeds = sorted(set(one.by_seed) & set(other.by_seed))
    pooled = pooled if len(seeds) >= LEAST_SEEDS else None
    by_seed = [one.by_seed[seed] - other.by_seed[seed] for seed in seeds]
    interval, over = _interval(by_seed, _by_example(one, other, seeds), pooled)
    return Difference(
        seeds=seeds,
        interval=interval,
        over=over,
        variance="pooled" if pooled else "pair",
        permutation=paired.sign_permutation(by_seed),
        mcnemar=_mcnemar(one, other, seeds[0]) if len(seeds) == 1 else None,
    )


def _interval(
    by_seed: Sequence[float], table: NDArray[np.float64] | None, pooled: SeedVariance | None
) -> tuple[Interval, str]:
    """Return the interval of a difference, and what it holds for; one seed has no p: it says nothing of others."""
    if table is None:
        return intervals.seed_interval(by_seed, pooled=pooled), "seeds"
    if len(by_seed) > 1:
        return intervals.crossed_interval(table, pooled=pooled), "seeds and examples"
    return replace(intervals.example_interval(table[0]), p=math.nan), "examples of one seed"


def _by_example(one: "Cell", other: "Cell", seeds: Sequence[int]) -> NDArray[np.float64] | None:
    """Return the differences [seeds, examples]; None unless both arms' scores are means over the same examples."""
    name = one.metric.name
    pairs = _pairs(one, other, seeds, lambda run: run.values(one.which, name))
    for seed, pair in zip(seeds, pairs or [], strict=bool(pairs)):
        if not np.allclose([values.mean() for values in pair], [one.by_seed[seed], other.by_seed[seed]], atol=1e-6):
            return None
    return np.stack([first - second for first, second in pairs]) if pairs else None


def _mcnemar(one: "Cell", other: "Cell", seed: int) -> float | None:
    pairs = _pairs(one, other, [seed], lambda run: run.correctness(one.which))
    if not pairs:
        return None
    first, second = (each > 0.5 for each in pairs[0])
    return paired.mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))


def _pairs(
    one: "Cell", other: "Cell", seeds: Sequence[int], known: Callable[[Run], Values | None]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]] | None:
    """Return the values of the examples in both arms, by seed; None if they are unknown or of other examples."""
    found = []
    for seed in seeds:
        first, second = (known(cell.run_of(seed)) for cell in (one, other))
        if first is None or second is None or first[0] != second[0]:
            return None
        found.append((first[1], second[1]))
    return found
