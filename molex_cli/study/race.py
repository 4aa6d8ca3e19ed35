"""The race of a study: which claims are decided, which are given up, and which need further seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from molex_cli.statistics.multiplicity import holm
from molex_cli.statistics.sequential import Race
from molex_cli.study.definition import Claim


class State(StrEnum):
    """How far a claim has come."""

    open = "open"
    decided = "decided"
    futile = "given up"
    """More seeds would hardly find a difference any more."""
    exhausted = "out of seeds"


class Look(NamedTuple):
    """What a look sees of a claim."""

    p: float
    """NaN where nothing may be concluded from it."""
    estimate: float
    """Of the difference."""


@dataclass
class Contest:
    """A claim in the race."""

    claim: Claim
    state: State = State.open
    looks: dict[int, Look] = field(default_factory=dict)
    """By the number of seeds."""
    q: float = 1.0
    """p over all looks so far."""
    adjusted: float = 1.0
    """q, adjusted for all claims (Holm)."""

    @property
    def seeds(self) -> int:
        """Return the seeds of the last look."""
        return max(self.looks, default=0)

    def strongest(self, race: Race) -> Look:
        """Return the look that its q is of."""
        known = {seeds: look for seeds, look in self.looks.items() if not math.isnan(look.p)}
        if not known:
            return self.looks[self.seeds]
        return known[min(known, key=lambda seeds: known[seeds].p / race.weight(seeds))]

    def forget(self, race: Race, below: int) -> None:
        """Conclude nothing from looks at fewer seeds; a claim that they decided is open again."""
        before = self.q
        for seeds in [seeds for seeds in self.looks if seeds < below]:
            self.looks[seeds] = self.looks[seeds]._replace(p=math.nan)
        self.update(race)
        if self.q > before and self.state is State.decided:
            self.state = State.open

    def update(self, race: Race) -> None:
        """Find the p over all looks so far."""
        if self.looks:
            self.q = race.p_over_looks({seeds: look.p for seeds, look in self.looks.items()})


def look(contests: Sequence[Contest], race: Race, seeds: int, alpha: float, seen: Mapping[Claim, Look]) -> None:
    """Take what is seen of every open claim after so many seeds, and decide what can be decided.

    A claim that is not open keeps its q and its place in the family. One that was given up is decided where others
    that are leave it the level (Holm). The next is given up by the level that these leave it. Nothing is decided by a
    look of before whose difference has changed its sign since.
    """
    running = [contest for contest in contests if contest.state is State.open]
    for contest in running:
        contest.looks[seeds] = seen[contest.claim]
        contest.update(race)
    for contest, adjusted in zip(contests, holm([contest.q for contest in contests]), strict=True):
        contest.adjusted = adjusted
    for contest in contests:
        if contest.adjusted <= alpha and _is_stable(contest, race):
            contest.state = State.decided
    left = [contest for contest in contests if contest.state is not State.decided]
    for contest in left:
        if contest.state is State.open:
            contest.state = _undecided(contest.looks[seeds].p, race, seeds, alpha / len(left))


def _is_stable(contest: Contest, race: Race) -> bool:
    return contest.strongest(race).estimate * contest.looks[contest.seeds].estimate > 0


def _undecided(p: float, race: Race, seeds: int, level: float) -> State:
    if seeds == race.most:
        return State.exhausted
    return State.futile if not math.isnan(p) and race.is_futile(p, seeds, level) else State.open
