"""A comparison that is looked at after every seed: error rates hold over all looks together; no torch.

At n of at most N paired seeds a pair has an ordinary p. Each look spends a part of alpha that grows as (n/N)³: the
smallest p/(n/N)³ seen so far is compared with its distribution under the null, drawn once from normal differences and
Student's test. N and the first look are fixed beforehand; N is never extended.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from molex_cli.errors import ConfigError
from molex_cli.statistics.intervals import Interval, with_freedom

Floats = NDArray[np.float64]
DRAWS = 400_000
DRAWN_AT_ONCE = 20_000  # rows of normals in memory
FIRST_FUTILE = 6  # fewer seeds tell too little to give up on
LEAST_CHANCE = 0.1  # of significance at the end; a comparison with less is given up
MOST_FREEDOM = 1.5  # times that of the variance over seeds


def of_look(interval: Interval, seeds: int) -> Interval:
    """Return the interval of a difference after so many seeds as a look judges it: with fewer degrees of freedom.

    Early looks of many pairs ask for a p of 0.0001. So far out an interval over seeds and examples with up to twice the
    freedom of its seeds is two times too often below; with one and a half it is not (benchmarks/inference.py, race).
    """
    return with_freedom(interval, MOST_FREEDOM * (seeds - 1), seeds)


@dataclass(frozen=True)
class Race:
    """The looks that were planned: after `first` to `most` seeds."""

    first: int
    most: int
    draws: int = DRAWS
    seed: int = 0

    def __post_init__(self) -> None:
        if not 3 <= self.first <= self.most:
            raise ConfigError(f"seeds must be at least 3 first and no fewer at most, got {self.first} and {self.most}")

    def weight(self, seeds: int) -> float:
        """Return the share of alpha that is spent after so many seeds, in units of the last look's."""
        return (seeds / self.most) ** 3

    def p_over_looks(self, p_by_seeds: Mapping[int, float]) -> float:
        """Return the p that holds over all looks so far; `p_by_seeds` has the p of each, by its number of seeds.

        A look without a p (NaN) found nothing.
        """
        if not p_by_seeds or not all(self.first <= seeds <= self.most for seeds in p_by_seeds):
            found = ", ".join(map(str, p_by_seeds)) or "none"
            raise ConfigError(f"looks must be after {self.first} to {self.most} seeds, got {found}")
        known = [p / self.weight(seeds) for seeds, p in p_by_seeds.items() if not math.isnan(p)]
        smallest = min(known, default=math.inf)
        below = int(np.searchsorted(self._null, smallest, side="right"))
        return (1 + below) / (self.draws + 1)

    def critical(self, seeds: int, alpha: float = 0.05) -> float:
        """Return the p of a single look below which a difference is called, at a level over all looks."""
        rank = max(0, int(alpha * (self.draws + 1)) - 1)  # so many draws are smaller at most
        return float(self._null[rank]) * self.weight(seeds)

    def is_futile(self, p: float, seeds: int, alpha: float = 0.05) -> bool:
        """Return whether the trend so far leaves too small a chance of a significant end; to heed it is optional.

        The conditional power under the current trend (Lan and Wittes 1988).
        """
        if seeds < FIRST_FUTILE or seeds >= self.most:
            return False
        done = seeds / self.most
        now, needed = (float(-special.ndtri(each / 2)) for each in (p, self.critical(self.most, alpha)))
        chance = float(special.ndtr(-(needed - now / np.sqrt(done)) / np.sqrt(1 - done)))
        return chance < LEAST_CHANCE

    @cached_property
    def _null(self) -> Floats:
        """Return the smallest p/weight of races of equal arms, from low to high."""
        stream = np.random.default_rng(self.seed)
        sizes = [min(DRAWN_AT_ONCE, self.draws - start) for start in range(0, self.draws, DRAWN_AT_ONCE)]
        return np.sort(np.concatenate([self._smallest(stream.standard_normal((size, self.most))) for size in sizes]))

    def _smallest(self, values_BN: Floats) -> Floats:
        """Return the smallest p/weight over the looks of each row of differences over seeds [B, N]."""
        counts = np.arange(1, self.most + 1)
        sums, squares = values_BN.cumsum(1), (values_BN**2).cumsum(1)
        smallest = np.full(len(values_BN), np.inf)
        for n in range(self.first, self.most + 1):
            mean = sums[:, n - 1] / counts[n - 1]
            error = np.sqrt((squares[:, n - 1] - n * mean**2) / (n - 1) / n)
            smallest = np.minimum(smallest, 2 * special.stdtr(n - 1, -np.abs(mean) / error) / self.weight(n))
        return smallest
