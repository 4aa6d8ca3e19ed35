"""Several arms brought to one budget, each with a setting of its own: what `molex plan --match` and a sweep share."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from molex_cli.config.command_line import CommandLine
from molex_cli.config.parsing import key_of
from molex_cli.config.run_id import Job
from molex_cli.config.schema import Experiment
from molex_cli.config.sweeps import typed
from molex_cli.cost.matching import BUDGETS, SOLVABLE, Match, matched, reference, scale_of
from molex_cli.cost.planning import labels_of, planned
from molex_cli.errors import ConfigError, all_of
from molex_cli.methods.ledger import Plan


@dataclass(frozen=True)
class Budget:
    """The arm whose budget others meet, what of it, and what they may change for that."""

    of: str
    """As `lora:rank=64`."""
    solve: str = "rank"
    by: str = "parameters"

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be solved or met."""
        for name, value, known in (("solve", self.solve, SOLVABLE), ("by", self.by, BUDGETS)):
            if value not in known:
                raise ConfigError(f"--{name} must be one of {', '.join(known)}, got {value}")

    def flags(self) -> list[str]:
        """Return what is typed for it."""
        defaults = Budget("")
        others = {"--solve": (self.solve, defaults.solve), "--by": (self.by, defaults.by)}
        given = [text for flag, (value, default) in others.items() if value != default for text in (flag, value)]
        return ["--match", self.of, *given]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a budget to those of a command."""
    parser.add_argument("--match", metavar="METHOD[:KEY=VALUE,...]", help="meet this arm's budget, e.g. lora:rank=64")
    parser.add_argument("--solve", choices=SOLVABLE, default="rank", help="what --match may change")
    parser.add_argument("--by", choices=BUDGETS, default="parameters", help="the budget that --match meets")


def given_to(job: Job, line: CommandLine) -> list[str]:
    """Return the settings of one job of a line, as they are typed without a sweep."""
    swept = {key_of(value) for value in job.values}
    return [*(text for text in line.overrides if key_of(text) not in swept), *map(typed, job.values)]


def solved(jobs: Sequence[Job], line: CommandLine, wanted: Budget) -> dict[tuple[str, ...], tuple[Match, Experiment]]:
    """Return what brings each arm of a line's jobs to a budget, and its experiment with that.

    Raises ConfigError with a line for each arm that cannot be brought to it.
    """
    first = {job.arm: job for job in reversed(jobs)}
    arms = dict.fromkeys(job.arm for job in jobs)
    return all_of({arm: lambda arm=arm: _solved(first[arm], line, wanted) for arm in arms})  # type: ignore[misc]


def at_budget(jobs: Sequence[Job], line: CommandLine, wanted: Budget) -> tuple[list[Job], list[str]]:
    """Return the jobs with the setting that brings the arm of each to a budget, and a line on each arm."""
    found = solved(jobs, line, wanted)
    changed = [replace(job, experiment=replace(job.experiment, method=found[job.arm][1].method)) for job in jobs]
    names = {arm: " ".join(arm) or experiment.method.name for arm, (_, experiment) in found.items()}
    return changed, [f"matched {names[arm]}: {match.told(wanted.by, wanted.of)}" for arm, (match, _) in found.items()]


def _solved(job: Job, line: CommandLine, wanted: Budget) -> tuple[Match, Experiment]:
    """Return the solution of one arm."""
    given = given_to(job, line)
    labels = labels_of(job.experiment)

    def plan_of(experiment: Experiment) -> Plan:
        return planned(experiment, labels)

    other = reference(wanted.of, replace(line, multirun=False, overrides=given))
    target = plan_of(other)
    match, experiment = matched(job.experiment, target, wanted.solve, wanted.by, plan_of, given)
    return replace(match, target_scale=scale_of(other, target)), experiment
