"""The arms of a study as jobs: composed, checked, and brought to one budget."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from molex_cli.analysis.allocating import frozen
from molex_cli.config import overrides
from molex_cli.config.command_line import CommandLine
from molex_cli.config.parsing import is_hydra, key_of
from molex_cli.config.run_id import Job
from molex_cli.config.schema import Experiment, as_data
from molex_cli.cost.matching import Match as Solution
from molex_cli.cost.matching import budget, scale_of
from molex_cli.cost.matching import matched as solved
from molex_cli.cost.planning import labels_of, planned
from molex_cli.data.reading import read_all
from molex_cli.errors import ConfigError, MolexError
from molex_cli.records import NOT_IN_VARIANT, variant_id
from molex_cli.records.locks import Resume
from molex_cli.study.definition import Match, Study

if TYPE_CHECKING:
    from molex_cli.methods.ledger import Plan


PRESET = "experiment"  # sets anything


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
        self.typed, self.experiment = cache(self._typed), cache(self._experiment)

    def line(self, *own: str) -> CommandLine:
        """Return a command line with the base, settings of one's own, and what the command line adds."""
        return replace(self._line, overrides=[*self._base, *own, *self._line.overrides])

    def job(self, arm: Arm, seed: int, settings: Sequence[str] = ()) -> Job:
        """Return the job of an arm with a seed and, of a trial, the settings that are tried."""
        experiment = self.experiment(*arm.overrides, *settings)
        return Job((arm.name, *settings, f"seed={seed}"), replace(experiment, seed=seed))

    def _typed(self, *own: str) -> Experiment:
        """Return the settings without the counts of an allocation's rule, which depend on what is matched."""
        return overrides.checked(self.line(*own))

    def _experiment(self, *own: str) -> Experiment:
        return frozen(self.typed(*own))


def composed(study: Study, composer: Composer) -> list[Arm]:
    """Return the arms, checked with all values that are tuned; what is wrong in all of them is told once."""
    arms = [Arm(name, tuple(own)) for name, own in study.arms.items()]
    problems: dict[str, dict[str, None]] = {}
    for arm in arms:
        for settings in ([], *_trials(study)):
            try:
                composer.experiment(*arm.overrides, *settings)
            except ConfigError as error:
                for problem in error.problems:
                    problems.setdefault(problem, {})[arm.name] = None
    if problems:
        raise ConfigError([_told(problem, list(names), len(arms)) for problem, names in problems.items()])
    experiments = {arm.name: composer.experiment(*arm.overrides) for arm in arms}
    if found := list(_problems(study, experiments)):
        raise ConfigError(found)
    read_all(experiments[arms[0].name])  # rows that are missing, or too few to select by, are told before anything runs
    return arms


def prepared(study: Study, composer: Composer) -> list[Arm]:
    """Return the arms, checked and at one budget; raise ConfigError with what is wrong."""
    arms = matched(study, composer, composed(study, composer))
    if found := list(_alike(study, composer, arms)):
        raise ConfigError(found)
    return arms


def variants(study: Study, composer: Composer, arms: Sequence[Arm]) -> dict[str, str]:
    """Return what tells the arms apart, with the first of the values that are tuned."""
    first = _trials(study)[0] if study.tuning else []
    return {arm.name: variant_id(as_data(composer.experiment(*arm.overrides, *first))) for arm in arms}


def matched(study: Study, composer: Composer, arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms at the budget of one; raise ConfigError for an arm that cannot come near it."""
    if study.match is None:
        return list(arms)
    match, experiments = study.match, {arm.name: composer.typed(*arm.overrides) for arm in arms}
    labels = labels_of(experiments[match.to])

    def plan_of(experiment: Experiment) -> "Plan":
        return planned(experiment, labels)

    _require_budget_kept(study, composer, arms, match, plan_of)
    target = plan_of(experiments[match.to])
    scale = scale_of(experiments[match.to], target)
    found = [
        arm
        if arm.name == match.to
        else _matched(match, experiments[arm.name], arm, target, plan_of, composer.line(*arm.overrides).overrides)
        for arm in arms
    ]
    return [replace(arm, solution=arm.solution and replace(arm.solution, target_scale=scale)) for arm in found]


def _matched(
    match: Match,
    experiment: Experiment,
    arm: Arm,
    target: "Plan",
    plan_of: "Callable[[Experiment], Plan]",
    given: Sequence[str],
) -> Arm:
    try:
        found, _ = solved(experiment, target, match.solve, match.by, plan_of, given)
    except MolexError as error:
        reason = str(error).replace("--", "")  # flags of molex plan
        raise ConfigError(f"match must be met by every arm, got {arm.name}: {reason}") from None
    if abs(found.left_over) > match.within:
        raise ConfigError(
            f"match must be met within {match.within:.0%}, got {arm.name}: {found.told(match.by, match.to)}; "
            "raise match.within or take another arm"
        )
    return replace(arm.with_settings(found.overrides), solution=found)


def _trials(study: Study) -> list[list[str]]:
    """Return every choice of the values that are tuned."""
    tune = study.tuning
    return [tune.overrides(values) for values in tune.combinations()] if tune else []


def _require_budget_kept(
    study: Study, composer: Composer, arms: Sequence[Arm], match: Match, plan_of: "Callable[[Experiment], Plan]"
) -> None:
    """Raise ConfigError if tuning would change the budget that arms were matched to."""
    if study.tuning is None or not any(key.startswith(("method.", "model.")) for key in study.tuning.grid):
        return
    for arm in arms:
        plans = [plan_of(composer.typed(*arm.overrides, *settings)) for settings in _trials(study)]
        if len({budget(plan, match.by) for plan in plans}) > 1:
            keys = ", ".join(study.tuning.grid)
            raise ConfigError(
                f"tune must leave the {match.by} alone to which arms are matched, got {keys} in {arm.name}"
            )


def _alike(study: Study, composer: Composer, arms: Sequence[Arm]) -> Iterator[str]:
    """Yield the arms that are the same once they are matched and tuned."""
    seen: dict[str, str] = {}
    for name, variant in variants(study, composer, arms).items():
        if (other := seen.setdefault(variant, name)) != name:
            after = " once they are matched and tuned" if study.match or study.tuning else ""
            yield f"arms must differ, got the same settings for {other} and {name}{after}"


def _told(problem: str, names: Sequence[str], arms: int) -> str:
    return problem if len(names) == arms else f"arm {', '.join(names)}: {problem}"


def _problems(study: Study, experiments: Mapping[str, Experiment]) -> Iterator[str]:
    """Yield what does not go together in the composed arms."""
    first = next(iter(experiments.values()))
    if any(experiment.resume is Resume.never for experiment in experiments.values()):
        yield "resume must be missing or failed in a study, got never; another output_dir starts it over"
    for name, experiment in experiments.items():
        if (experiment.task, experiment.stages) != (first.task, first.stages):
            yield f"arms must have one task, got {experiment.task.name} in {name} and {first.task.name}"
        if not experiment.train.selection and (study.tune or study.which == "best"):
            reason = "tune chooses" if study.tune else "which: best chooses"
            yield f"train.selection must set rows apart by which {reason}, got 0 in {name}; add train.selection=0.1"


def require_launch_only(launch: Sequence[str]) -> None:
    """Raise ConfigError if the command line says what is compared, which stands in the file."""
    keys = {text: key_of(text).split(".")[0].split("@")[0] for text in launch}
    if "seed" in keys.values():
        raise ConfigError("seed must be left to the study, got one; seeds.first and seeds.most count them")
    others = [text for text, key in keys.items() if not is_hydra(key) and (key not in NOT_IN_VARIANT or key == PRESET)]
    if others:
        given = ", ".join(others)
        raise ConfigError(f"settings that make other runs must be in the study's file, got {given}; add them to base")
