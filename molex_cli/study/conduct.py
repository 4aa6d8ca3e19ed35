"""A study from its first run to its last verdict; to be read from top to bottom.

Everything that it decides follows from the runs on disk, so a study that was killed repeats its looks on the runs that
it finds, and goes on where they end.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from molex_cli.compare.arms import label
from molex_cli.compare.collapse import ENOUGH_SEEDS, caveat
from molex_cli.compare.differences import Difference, difference
from molex_cli.compare.loading import Run, unscored
from molex_cli.compare.table import Cell
from molex_cli.compare.tuning import Tuned
from molex_cli.records.made_from import differences, of_record
from molex_cli.statistics.sequential import Race, of_look
from molex_cli.study.arms import Arm, Composer
from molex_cli.study.definition import Claim, Study, arms_in
from molex_cli.study.race import Contest, Look, State, look
from molex_cli.study.runs import Runs, UnfinishedError
from molex_cli.study.tuning import remarks, settings_of, tuned

COLUMN_KEYS = ("task", "model")
UNDECIDED = f"undecided: a seed collapsed, and fewer than {ENOUGH_SEEDS} seeds do not tell what that changes"


@dataclass
class Conducted:
    """What a study has done and found."""

    study: Study
    arms: list[Arm]
    race: Race
    contests: list[Contest]
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    """Of each arm, in the order of seeds; tuning's runs are none of them."""
    differences: dict[Claim, Difference] = field(default_factory=dict)
    """At the last look of each claim."""

    def cell(self, arm: str, seeds: int | None = None) -> Cell:
        """Return an arm's first seeds."""
        runs = self.runs[arm][:seeds]
        positive = runs[0].record.evaluation.get("positive")
        return Cell(runs, runs[0].metric(), positive, self.study.which, tuned=self.tuned.get(arm))

    def add(self, arm: str, run: Run) -> None:
        """Take the run of an arm's next seed; raise UnfinishedError if it was made from other things than the first."""
        if why := unscored(run, self.study.which):
            raise UnfinishedError(why)
        runs = self.runs.setdefault(arm, [])
        if runs and (found := differences(of_record(runs[0].record), of_record(run.record))):
            raise UnfinishedError(
                f"the runs of an arm must be made from the same, got {run.folder} beside {runs[0].folder} of {arm} "
                f"({'; '.join(found)}); set that back, or start over with another output_dir"
            )
        runs.append(run)

    @property
    def collapsed(self) -> list[str]:
        """Return the arms of which a seed collapsed."""
        return [name for name in self.runs if self.cell(name).collapsed]

    @property
    def column(self) -> str:
        """Return the name of the task, with the model if all arms have the same."""
        names = {label(runs[0], COLUMN_KEYS) for runs in self.runs.values()}
        return names.pop() if len(names) == 1 else label(next(iter(self.runs.values()))[0], COLUMN_KEYS[:1])


def conduct(
    study: Study, composer: Composer, arms: Sequence[Arm], runs: Runs, tell: Callable[[str], None]
) -> Conducted:
    """Tune the arms, then add seeds to those of open claims until none is open; `tell` gets a line on each step."""
    race, pace = Race(study.seeds.first, study.seeds.most), Pace(runs)
    chosen = tuned(study, composer, arms, runs, tell)
    for name, each in chosen.items():
        tell(f"tuned {name}: {', '.join([*settings_of(each), *remarks(each)])}")
    arms = [arm.with_settings(settings_of(chosen[arm.name])) if arm.name in chosen else arm for arm in arms]
    found = Conducted(study, arms, race, [Contest(claim) for claim in study.contests], chosen)
    for seeds in range(study.seeds.first, study.seeds.most + 1):
        running = _with_seeds(found, composer, seeds, runs, pace)
        if not running:
            break
        for contest in running:
            found.differences[contest.claim] = _difference(found, contest.claim, seeds)
        seen = {contest.claim: _seen(found.differences[contest.claim]) for contest in running}
        look(found.contests, race, seeds, study.alpha, seen)
        for contest in running:
            if race.most < ENOUGH_SEEDS and contest.state is State.open and found.collapsed:
                contest.state = State.exhausted  # no number of seeds that is left may decide it
            tell(f"after {seeds} seeds  {told(found, contest)}")
    return found


@dataclass
class Pace:
    """How long the runs that are left may take at most."""

    runs: Runs
    started: float = field(default_factory=time.monotonic)

    def told(self, left: int) -> str:
        """Return the runs that are left at most, and how long they take at the pace of those that were launched."""
        if not self.runs.launched:
            return f"at most {left} runs left"
        minutes = (time.monotonic() - self.started) / self.runs.launched * left / 60
        return f"at most {left} runs left, about {minutes:,.0f} min"


def _with_seeds(found: Conducted, composer: Composer, seeds: int, runs: Runs, pace: Pace) -> list[Contest]:
    """Give every arm of an open claim so many seeds, of one too that a collapse opens again; return these claims."""
    while True:
        running = [contest for contest in found.contests if contest.state is State.open]
        names = arms_in([contest.claim for contest in running])
        done = {name: len(found.runs.get(name, [])) for name in names}
        arms = [arm for arm in found.arms if arm.name in names]
        start = found.study.seeds.start
        jobs = [composer.job(arm, start + i) for i in range(seeds) for arm in arms if i >= done[arm.name]]
        if not jobs:
            return running
        left = sum(found.study.seeds.most - count for count in done.values())
        about = [*(f"open  {told(found, contest)}" for contest in running), pace.told(left)]
        for job, run in zip(jobs, runs.of(jobs, about), strict=True):
            found.add(job.values[0], run)
        _heed_collapses(found)


def _heed_collapses(found: Conducted) -> None:
    """Conclude nothing from few seeds once a seed of any arm has collapsed, from looks of before neither."""
    for contest in found.contests if found.collapsed else ():
        contest.forget(found.race, ENOUGH_SEEDS)
        if contest.looks:
            found.differences[contest.claim] = _difference(found, contest.claim, contest.seeds)


def _difference(found: Conducted, claim: Claim, seeds: int) -> Difference:
    """Return how the arms of a claim differ on their first seeds, each pair with its own variance."""
    one, other = (found.cell(name, seeds) for name in (claim.one, claim.other))
    measured = difference(one, other)
    undecided = UNDECIDED if found.collapsed and seeds < ENOUGH_SEEDS else ""
    interval = of_look(measured.interval, len(measured.seeds))
    return replace(measured, interval=interval, undecided=undecided, caveat=caveat(one, other, seeds))


def _seen(measured: Difference) -> Look:
    return Look(math.nan if measured.undecided else measured.interval.p, measured.interval.estimate)


def told(found: Conducted, contest: Contest) -> str:
    """Return a claim with what is known of it, in a line."""
    measured = found.differences.get(contest.claim)
    if measured is None:
        return f"{contest.claim}: no seeds yet"
    times = found.cell(contest.claim.one).metric.scale
    why = f" ({measured.undecided})" if measured.undecided else ""
    p = f"p {contest.q:.3g} over all looks, {contest.adjusted:.3g} over all claims too"
    return f"{contest.claim}: {contest.state}{why}, {measured.interval.estimate * times:+.2f}, {p}"
