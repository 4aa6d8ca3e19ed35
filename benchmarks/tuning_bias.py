"""How much tuning flatters: an arm that tried several values against an equal one with a single value."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from simulated import Simulated, World

from molex_cli.compare.tuning import chosen

SETTING = "train.learning_rate"
SELECTION = 249  # a tenth of RTE's training rows
TUNING_SEEDS = 2


@dataclass(frozen=True)
class Choice:
    """By what the better value is chosen."""

    name: str
    on_selection: bool
    """By rows that are set apart, or by those that are reported."""
    fresh_seeds: bool
    """By seeds of their own, or by those that are reported."""


CHOICES = (
    Choice("the reported rows and seeds", on_selection=False, fresh_seeds=False),
    Choice("rows set apart, the reported seeds", on_selection=True, fresh_seeds=False),
    Choice("rows and seeds set apart", on_selection=True, fresh_seeds=True),
)


def biases(world: World, sets: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the mean difference of equal arms in points and its standard error, for each way to choose.

    The first arm of the world has one value; the others are the values of the second.
    """
    stream = np.random.default_rng(seed)
    whole = replace(world, seeds=world.seeds + TUNING_SEEDS, examples=world.examples + SELECTION)
    found: dict[str, list[float]] = {choice.name: [] for choice in CHOICES}
    for _ in range(sets):
        outcomes, _ = whole.outcomes(stream)
        for name, difference in differences(outcomes, world):
            found[name].append(100 * difference)
    return {name: (float(np.mean(each)), float(np.std(each) / sets**0.5)) for name, each in found.items()}


def differences(outcomes: NDArray[np.float64], world: World) -> Iterator[tuple[str, float]]:
    """Yield what is reported of a set for each way to choose: the second arm's accuracy less the first's."""
    reported, selection = outcomes[:, : world.seeds, : world.examples], outcomes[..., world.examples :].mean(2)
    for choice in CHOICES:
        seeds = range(world.seeds, selection.shape[1]) if choice.fresh_seeds else range(world.seeds)
        scores = selection if choice.on_selection else reported.mean(2)
        runs = {
            (value,): [Simulated(seed, outcomes[value, seed], selection=float(scores[value, seed])) for seed in seeds]
            for value in range(1, world.arms)
        }
        best = chosen(runs, [SETTING], seeds).values[SETTING]
        yield choice.name, float(reported[best].mean() - reported[0].mean())
