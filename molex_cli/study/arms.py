"""The arms of a study as jobs: composed, checked, and brought to one budget."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from molex_cli.config import overrides
from molex_cli.config.command_line import CommandLine
from molex_cli.config.parsing import key_of
from molex_cli.config.run_id import Job
from molex_cli.config.schema import Experiment, as_data
from molex_cli.cost.matching import Match as Solution
from molex_cli.cost.matching import matched as solved
from molex_cli.cost.planning import labels_of, planned
from molex_cli.data.reading import read_all
from molex_cli.errors import ConfigError, MolexError
from molex_cli.records import NOT_IN_VARIANT, variant_id
from molex_cli.records.locks import Resume
from molex_cli.study.definition import Match, Study

if TYPE_CHECKING:
    from molex_cli.methods.ledger import Plan


@dataclass(frozen=True)
class Arm:
    """An arm: what it adds to the base, and what was solved for it."""

    name: str
    overrides: tuple[str, ...]
    solution: Solution | None = None
    """What brings it to the budget; None where nothing is matched, or to itself."""

    def with_settings(self, settings: Sequence[str]) -> "Arm":
        """Return the arm with further settings, such as tuned ones."""
        return replace(self, overrides=(*self.overrides, *settings))


class Composer:
    """Turns arms into jobs: base, arm, seed, and what the command line adds for the launch."""

    def __init__(self, base: Sequence[str], line: CommandLine) -> None:
        self._base, self._line = base, line
        self.launch = line.overrides
        self.experiment = cache(self._experiment)

    def line(self, *own: str, launch: Sequence[str] | None = None) -> CommandLine:
        """Return a command line with the base, settings of one's own, and what the command line adds."""
        return replace(self._line, overrides=[*self._base, *own, *(self.launch if launch is None else launch)])

    def job(self, arm: Arm, seed: int, settings: Sequence[str] = ()) -> Job:
        """Return the job of an arm with a seed and, of a trial, the settings that are tried."""
        experiment = self.experiment(*arm.overrides, *settings)
        return Job((arm.name, *settings, f"seed={seed}"), replace(experiment, seed=seed))

    def _experiment(self, *own: str) -> Experiment:
        return overrides.checked(self.line(*own))


def composed(study: Study, composer: Composer) -> list[Arm]:
    """Return the arms, checked; raise ConfigError with what is wrong in each, and once with what is wrong in all."""
    arms = [Arm(name, tuple(own)) for name, own in study.arms.items()]
    problems: dict[str, list[str]] = {}
    for arm in arms:
        try:
            composer.experiment(*arm.overrides)
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(arm.name)
    if problems:
        raise ConfigError([_told(problem, names, len(arms)) for problem, names in problems.items()])
    experiments = {arm.name: composer.experiment(*arm.overrides) for arm in arms}
    if found := list(_problems(study, experiments)):
        raise ConfigError(found)
    read_all(experiments[arms[0].name])  # rows that are missing, or too few to select by, are told before anything runs
    return arms


def matched(study: Study, composer: Composer, arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms at the budget of one; raise ConfigError for an arm that cannot come near it."""
    if study.match is None:
        return list(arms)
    match, experiments = study.match, {arm.name: composer.experiment(*arm.overrides) for arm in arms}
    labels = labels_of(experiments[match.to])

    def plan_of(experiment: Experiment) -> "Plan":
        return planned(experiment, labels)

    target = plan_of(experiments[match.to])
    return [
        arm if arm.name == match.to else _matched(match, experiments[arm.name], arm, target, plan_of) for arm in arms
    ]


def _matched(
    match: Match, experiment: Experiment, arm: Arm, target: "Plan", plan_of: "Callable[[Experiment], Plan]"
) -> Arm:
    try:
        found, _ = solved(experiment, target, match.solve, match.by, plan_of)
    except MolexError as error:
        raise ConfigError(f"match must be met by every arm, got {arm.name}: {error}") from None
    if abs(found.left_over) > match.within:
        raise ConfigError(
            f"match must be met within {match.within:.0%}, got {arm.name}: {found.setting} comes nearest to {match.to} "
            f"with {found.reached:,.0f} {match.by} for {found.target:,.0f}; raise match.within or take another arm"
        )
    return replace(arm.with_settings(found.overrides), solution=found)


def _told(problem: str, names: Sequence[str], arms: int) -> str:
    return problem if len(names) == arms else f"arm {', '.join(names)}: {problem}"


def _problems(study: Study, experiments: Mapping[str, Experiment]) -> Iterator[str]:
    """Yield what does not go together in the composed arms."""
    seen: dict[str, str] = {}
    for name, experiment in experiments.items():
        other = seen.setdefault(variant_id(as_data(experiment)), name)
        if other != name and study.match is None:
            yield f"arms must differ, got the same settings for {other} and {name}"
        if experiment.resume is Resume.never:
            yield "resume must be missing or failed in a study, got never; another output_dir starts it over"
    first = next(iter(experiments.values()))
    for name, experiment in experiments.items():
        if (experiment.task, experiment.stages) != (first.task, first.stages):
            yield f"arms must have one task, got {experiment.task.name} in {name} and {first.task.name}"
        if not experiment.train.selection and (study.tune or study.which == "best"):
            reason = "tune chooses" if study.tune else "which: best chooses"
            yield f"train.selection must set rows apart by which {reason}, got 0 in {name}; add train.selection=0.1"


def require_launch_only(composer: Composer, arm: Arm) -> None:
    """Raise ConfigError if the command line says what is compared, which stands in the file."""
    if any(key_of(text) == "seed" for text in composer.launch):
        raise ConfigError("seed must be left to the study, got one; seeds.first and seeds.most count them")
    alone = overrides.checked(composer.line(*arm.overrides, launch=()))
    if variant_id(as_data(alone)) != variant_id(as_data(composer.experiment(*arm.overrides))):
        given = ", ".join(text for text in composer.launch if key_of(text).split(".")[0] not in NOT_IN_VARIANT)
        raise ConfigError(f"settings that make other runs must be in the study's file, got {given}; add them to base")
