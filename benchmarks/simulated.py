"""Simulated runs of known truth: binary outcomes of arms, seeds and examples."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from molex_cli.compare.loading import Run
from molex_cli.records import Record

SHARED = 0.6  # of an outcome's variance: how hard the example is
OWN = 0.1  # how hard it is for one arm
MAJORITY = 0.6  # share of examples that a constant prediction gets right, about


@dataclass(frozen=True)
class World:
    """Arms of known accuracy."""

    arms: int
    seeds: int
    examples: int
    deviation: float
    """Of the accuracy between an arm's seeds."""
    ratios: tuple[float, ...] = ()
    """Of the deviations of the arms, in turn."""
    gain: float = 0.0
    """Accuracy that the first arm has more than the others, when it trains."""
    collapse: float = 0.0
    """Share of the first arm's seeds that predict the majority."""
    accuracy: float = 0.85

    def outcomes(self, stream: np.random.Generator) -> tuple[NDArray[np.float64], float]:
        """Return which examples each seed of each arm gets right [arms, seeds, examples], and the majority's share."""
        slope = float(stats.norm.pdf(stats.norm.ppf(self.accuracy)))
        ratios = np.resize(self.ratios or (1.0,), self.arms)[:, None, None]
        spread = self.deviation * ratios / slope
        means = np.full((self.arms, 1, 1), self.accuracy)
        means[0] += self.gain
        shape = (self.arms, self.seeds, self.examples)
        latent = stats.norm.ppf(means) * np.sqrt(1 + spread**2) + spread * stream.standard_normal((*shape[:2], 1))
        latent = latent + math.sqrt(SHARED) * stream.standard_normal(self.examples)
        latent = latent + math.sqrt(OWN) * stream.standard_normal((self.arms, 1, self.examples))
        right = latent + math.sqrt(1 - SHARED - OWN) * stream.standard_normal(shape) > 0
        collapsed = stream.random(self.seeds) < self.collapse
        right[0, collapsed] = is_majority = stream.random(self.examples) < MAJORITY
        return right.astype(np.float64), float(is_majority.mean())


class Simulated(Run):
    """A run that has nothing but its outcomes."""

    def __init__(
        self, seed: int, outcomes: NDArray[np.float64], constant: float = MAJORITY, selection: float | None = None
    ) -> None:
        record = Record(name="", variant="", status="finished", seed=seed, settings={"method": {}})
        super().__init__(folder=None, record=record)  # type: ignore[arg-type]
        self.record.scores = {"metric": "accuracy", "constant": {"accuracy": constant}}
        if selection is not None:
            self.record.scores["last"] = {"scores": {}, "selection": {"accuracy": selection}}
        object.__setattr__(self, "outcomes", outcomes)

    def score(self, which: str, metric: str | None = None) -> float:
        return float(self.outcomes.mean())

    def values(self, which: str, metric: str) -> tuple[str, NDArray[np.float64]]:
        return "examples", self.outcomes

    def correctness(self, which: str) -> tuple[str, NDArray[np.float64]]:
        return self.values(which, "")
