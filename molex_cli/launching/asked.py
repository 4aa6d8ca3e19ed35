"""What is asked to be trained, after every check that needs neither torch nor rows."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from molex_cli import records
from molex_cli.analysis.allocating import frozen
from molex_cli.config import overrides
from molex_cli.config.command_line import CommandLine
from molex_cli.config.hydra_internals import BASIC_LAUNCHER, BASIC_SWEEPER
from molex_cli.config.parsing import key_of
from molex_cli.config.run_id import Job
from molex_cli.cost.arms import Budget, at_budget
from molex_cli.errors import ConfigError
from molex_cli.runtime.streams import say
from molex_cli.tracking.wandb import require_usable


@dataclass(frozen=True)
class Asked:
    """Jobs, and how they are to be run."""

    jobs: list[Job]
    line: CommandLine
    """As Hydra takes it."""
    typed: CommandLine
    """As it was typed, with the flags of a budget."""
    settings: DictConfig
    """Hydra's own part, with launcher and sweeper."""

    @property
    def is_search(self) -> bool:
        """Return whether a sweeper chooses the next job by what the last one scored."""
        return bool(self.settings.hydra.sweeper._target_ != BASIC_SWEEPER)

    @property
    def is_one_run(self) -> bool:
        """Return whether it is one run, in this process or in several that share it."""
        return not self.line.multirun and self.settings.hydra.launcher._target_ == BASIC_LAUNCHER


def asked(typed: CommandLine, budget: Budget | None = None) -> Asked:
    """Return what a line asks for; raise ConfigError with what is wrong. A budget says what each arm got."""
    jobs, line = overrides.jobs(typed)
    found = Asked(jobs, line, typed, overrides.hydra_settings(line))
    _require_sweep(line, found.settings)
    require_queue(found.settings)
    require_usable({job.experiment.log.wandb for job in jobs})
    require_writable(jobs[0].experiment.output_dir)
    if budget:
        found = _matched(found, budget)
    # A search composes its jobs again.
    return found if found.is_search else replace(found, jobs=[_with_counts(job) for job in found.jobs])


def _matched(found: Asked, budget: Budget) -> Asked:
    """Return the jobs at a budget, and the line with the flags that ask for it; say what each arm got."""
    if found.is_search:
        raise ConfigError("--match must go without an optimiser, got both; leave one out")
    jobs, lines = at_budget(found.jobs, found.typed, budget)
    say(*lines)
    return replace(found, jobs=jobs, typed=replace(found.typed, flags=[*found.typed.flags, *budget.flags()]))


def _with_counts(job: Job) -> Job:
    """Return the job with the counts of its allocation's rule."""
    return replace(job, experiment=frozen(job.experiment))


def _require_sweep(line: CommandLine, settings: DictConfig) -> None:
    """Raise if the files or the command line ask for a sweep of which one run would show nothing."""
    if line.multirun:
        return
    if settings.hydra.sweeper._target_ != BASIC_SWEEPER:
        raise ConfigError("hydra/sweeper must go with a sweep, got one run; add -m")
    given = {key_of(text) for text in line.overrides}
    if swept := [key for key in settings.hydra.sweeper.params or {} if key not in given]:
        keys = ", ".join(swept)
        raise ConfigError(f"hydra.sweeper.params must go with -m, got one run of a sweep over {keys}; add -m")


def require_queue(settings: DictConfig) -> None:
    """Raise before any job is prepared if jobs are for Slurm and there is none."""
    if settings.hydra.launcher._target_.endswith(".SlurmLauncher") and not shutil.which("srun"):
        raise ConfigError(
            "hardware=slurm must be started where Slurm's commands are, got no srun; "
            "log in to the cluster, or choose hardware=pool"
        )


def require_writable(output_dir: str) -> None:
    """Raise before anything is loaded if the runs' folder cannot be made or written to."""
    try:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise records.unwritable(output_dir, error) from None
