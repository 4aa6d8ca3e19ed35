"""How one arm differs from another: on the seeds and, where they are known, the examples that both have."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from molex_cli.compare.loading import Run
from molex_cli.statistics import paired

if TYPE_CHECKING:
    from molex_cli.compare.table import Cell

Values = tuple[str, NDArray[np.float64]]
"""What identifies the examples of a run, and a value of each."""


@dataclass(frozen=True)
class Difference:
    """How one arm differs from another, on the seeds and examples that both have."""

    seeds: list[int]
    interval: paired.Interval
    """Of the mean difference, and its p."""
    over: str
    """What the interval holds for: seeds, seeds and examples, or the examples of one seed."""
    permutation: float
    """p of the exact paired permutation test over seeds; it cannot be below 2 / 2**seeds."""
    mcnemar: float | None
    """p of McNemar's exact test over the examples that only one arm gets right at most of its seeds."""
    detectable: float
    """Smallest difference that so many seeds would find with 80 % power."""
    needed: int | None
    """Seeds that would find the observed difference with 80 % power; None where more seeds alone would not."""
    adjusted: float = math.nan
    """The interval's p, adjusted for all tests of the table."""


def difference(one: "Cell", other: "Cell") -> Difference:
    """Return how `one` differs from `other` on what both have."""
    seeds = sorted(set(one.by_seed) & set(other.by_seed))
    by_seed = [one.by_seed[seed] - other.by_seed[seed] for seed in seeds]
    interval, over = _interval(by_seed, _by_example(one, other, seeds))
    return Difference(
        seeds=seeds,
        interval=interval,
        over=over,
        permutation=paired.sign_permutation(by_seed),
        mcnemar=_mcnemar(one, other, seeds),
        detectable=paired.detectable_effect(interval),
        needed=paired.seeds_needed(interval, len(seeds)),
    )


def _interval(by_seed: Sequence[float], table: NDArray[np.float64] | None) -> tuple[paired.Interval, str]:
    """Return the interval of a difference, and what it holds for; one seed has a p of 1: it says nothing of others."""
    if table is None:
        return paired.seed_interval(by_seed), "seeds"
    if len(by_seed) > 1:
        return paired.crossed_interval(table), "seeds and examples"
    return replace(paired.example_interval(table[0]), p=1.0), "examples of one seed"


def _by_example(one: "Cell", other: "Cell", seeds: Sequence[int]) -> NDArray[np.float64] | None:
    """Return the differences [seeds, examples]; None unless both arms' scores are means over the same examples."""
    name = one.metric.name
    pairs = _pairs(one, other, seeds, lambda run: run.values(one.which, name))
    for seed, pair in zip(seeds, pairs or [], strict=bool(pairs)):
        if not np.allclose([values.mean() for values in pair], [one.by_seed[seed], other.by_seed[seed]], atol=1e-6):
            return None
    return np.stack([first - second for first, second in pairs]) if pairs else None


def _mcnemar(one: "Cell", other: "Cell", seeds: Sequence[int]) -> float | None:
    pairs = _pairs(one, other, seeds, lambda run: run.correctness(one.which))
    if not pairs:
        return None
    first, second = (np.mean(each, axis=0) > 0.5 for each in zip(*pairs, strict=True))
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
