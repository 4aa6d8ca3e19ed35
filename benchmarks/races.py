"""How often a race errs, and how many seeds it takes: looks after every seed, as `molex study` makes them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from simulated import World

from molex_cli.statistics.intervals import Interval, crossed_interval, seed_interval
from molex_cli.statistics.sequential import Race, of_look
from molex_cli.study.definition import Claim
from molex_cli.study.race import Contest, Look, State, look

ALPHA = 0.05
Seen = Callable[[int, int, int], Look]
"""What a look sees of two arms after so many seeds."""


@dataclass(frozen=True)
class Outcome:
    """How a race ended."""

    decided: int
    """Pairs that are called different."""
    seeds: list[int]
    """That each arm used."""


def run(race: Race, arms: int, seen: Seen) -> Outcome:
    """Race all pairs of arms: an arm gets seeds only while a pair of it is open."""
    contests = [Contest(Claim(str(i), str(j), is_directed=False)) for i, j in combinations(range(arms), 2)]
    used = [race.first] * arms
    for seeds in range(race.first, race.most + 1):
        running = [(contest, int(contest.claim.one), int(contest.claim.other)) for contest in contests
                   if contest.state is State.open]  # fmt: skip
        for arm in {arm for _, *pair in running for arm in pair}:
            used[arm] = seeds
        look(contests, race, seeds, ALPHA, {contest.claim: seen(i, j, seeds) for contest, i, j in running})
    return Outcome(sum(contest.state is State.decided for contest in contests), used)


def binary(world: World, stream: np.random.Generator) -> Seen:
    """Return what is seen of pairs of a set of runs that are scored example by example."""
    outcomes, _ = world.outcomes(stream)
    return lambda i, j, seeds: _look(of_look(crossed_interval(outcomes[i, :seeds] - outcomes[j, :seeds]), seeds))


def normal(arms: int, most: int, gain: float, stream: np.random.Generator) -> Seen:
    """Return what is seen of pairs of a set of normal scores, of which the first arm's are so much higher."""
    scores = stream.standard_normal((arms, most))
    scores[0] += gain
    return lambda i, j, seeds: _look(seed_interval(list(scores[i, :seeds] - scores[j, :seeds])))


def _look(interval: Interval) -> Look:
    return Look(interval.p, interval.estimate)


def outcomes(race: Race, arms: int, deviation: float | None, sets: int, gain: float = 0.0) -> Iterator[Outcome]:
    """Yield how races ended: of 872 examples with this deviation between seeds, or of normal scores."""
    stream = np.random.default_rng(0)
    for _ in range(sets):
        world = World(arms, race.most, 872, deviation or 0.0, gain=gain)
        yield run(race, arms, normal(arms, race.most, gain, stream) if deviation is None else binary(world, stream))
