"""The race of a study: which claims are decided, which are given up, and which need further seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from molex_cli.statistics.multiplicity import holm
from molex_cli.statistics.sequential import Race
from molex_cli.study.definition import Claim


class State(StrEnum):
    """How far a claim has come."""

    open = "open"
    decided = "decided"
    futile = "futile"
    """More seeds would hardly find a difference any more."""
    exhausted = "exhausted"
    """All seeds are used."""


@dataclass
class Contest:
    """A claim in the race."""

    claim: Claim
    state: State = State.open
    p_by_seeds: dict[int, float] = field(default_factory=dict)
    """The p of each look; NaN where none may be concluded from."""
    q: float = 1.0
    """p over all looks so far."""
    adjusted: float = 1.0
    """q, adjusted for all claims (Holm)."""

    @property
    def seeds(self) -> int:
        """Return the seeds of the last look."""
        return max(self.p_by_seeds, default=0)


def look(contests: Sequence[Contest], race: Race, seeds: int, alpha: float, p_values: Mapping[Claim, float]) -> None:
    """Take the p of every open claim after so many seeds, and decide what can be decided.

    A claim that is not open keeps its q and stays in the family: `race.most` times the number of claims were planned.
    One that was given up is decided where others that are leave it the level (Holm). The next is given up by the level
    that these leave it.
    """
    running = [contest for contest in contests if contest.state is State.open]
    for contest in running:
        contest.p_by_seeds[seeds] = p_values[contest.claim]
        contest.q = race.p_over_looks(contest.p_by_seeds)
    for contest, adjusted in zip(contests, holm([contest.q for contest in contests]), strict=True):
        contest.adjusted = adjusted
    for contest in contests:
        if contest.adjusted <= alpha:
            contest.state = State.decided
    left = [contest for contest in contests if contest.state is not State.decided]
    for contest in left:
        if contest.state is State.open:
            contest.state = _undecided(contest.p_by_seeds[seeds], race, seeds, alpha / len(left))


def _undecided(p: float, race: Race, seeds: int, level: float) -> State:
    if seeds == race.most:
        return State.exhausted
    return State.futile if not math.isnan(p) and race.is_futile(p, seeds, level) else State.open
