"""`molex train`: one run, or with -m a sweep, after the command line has been checked."""

import math
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from molex_cli import records
from molex_cli.config import command_line, environment, overrides, own_files, schema
from molex_cli.config.hydra_internals import BASIC_LAUNCHER, BASIC_SWEEPER
from molex_cli.config.parsing import key_of, one_line
from molex_cli.errors import ConfigError, MolexError, all_of
from molex_cli.metrics.base import scored_class
from molex_cli.records.locks import Resume
from molex_cli.runtime.streams import say
from molex_cli.tracking.wandb import require_usable

SUMMARY = "fine-tune one model with one method on one task, and record the run; -m sweeps"


def main(argv: list[str]) -> int:
    """Check the command line, then show what Hydra shows, run one experiment or sweep over many."""
    line = command_line.parse(argv)
    schema.register()
    register_resolvers(line)
    if line.shows:
        if line.shows in ("--cfg", "--info"):
            _, line = overrides.jobs(line)
            _require_package(line)
        return application(line.argv(), str(line.config_path))
    jobs, line = overrides.jobs(line)
    settings = overrides.hydra_settings(line)
    _require_sweep(line, settings)
    require_writable(jobs[0].experiment.output_dir)
    if not line.multirun and settings.hydra.launcher._target_ == BASIC_LAUNCHER:
        return _run_one(jobs[0].experiment)
    require_usable({job.experiment.log.wandb for job in jobs})
    if settings.hydra.sweeper._target_ != BASIC_SWEEPER:
        from molex_cli.launching.optimiser import with_search

        search = with_search(line, jobs[0].experiment.task.metrics[0], settings.hydra.sweeper)
        return 0 if search is None else application(search.argv(), str(search.config_path))
    _require_own_rows([job.experiment for job in jobs])
    from molex_cli.launching.sweeper import sweep

    return sweep(jobs, settings)


def register_resolvers(line: command_line.CommandLine | None = None) -> None:
    """Let YAML files name the choices of a group and the size of a pool."""
    folders = line.folders if line else None
    OmegaConf.register_new_resolver(
        "molex_options", lambda group: ", ".join(command_line.options(group, folders)), replace=True
    )
    OmegaConf.register_new_resolver("molex_slots", _slots, replace=True)


@environment.guarded()
def application(argv: list[str], config_path: str, name: str = "molex train") -> int:
    """Let Hydra do the rest: its displays, and sweepers that choose the next job by what the last one scored."""
    # With this set Hydra leaves errors to the caller, who prints one line for a user's mistake.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [name, *argv]
    try:
        with own_files.judged():
            hydra.main(version_base="1.3", config_path=config_path, config_name="config")(job)()
    except HydraException as error:
        raise ConfigError(one_line(error)) from error
    except ValueError as error:
        if "dynamic value space" not in str(error):
            raise
        raise ConfigError(
            "hydra.sweeper.study_name must name a study over the same values, got one over others; choose another name"
        ) from error
    return 0


def job(config: DictConfig) -> float:
    """Run one job of a sweeper that optimises, and return its score: the last of the first metric.

    Where training rows were set apart to choose the best, it is the score on these.
    """
    from molex_cli.launching.torchrun import run_here

    experiment = schema.resolve(config)
    if experiment.resume is Resume.missing:
        experiment.resume = Resume.failed  # a trial that failed before has no score to return
    record = run_here(experiment)
    last = record.scores["last"]
    score = (last.get("selection") or last["scores"])[record.scores["metric"]]
    return math.nan if score is None else float(score)


def _require_package(line: command_line.CommandLine) -> None:
    """Raise if --package names no part of the settings."""
    if (
        line.package not in (None, "_global_")
        and OmegaConf.select(overrides.hydra_settings(line), line.package) is None
    ):
        raise ConfigError(f"--package must be a part of the settings, got {line.package}; --cfg job lists them all")


def _require_sweep(line: command_line.CommandLine, settings: DictConfig) -> None:
    """Raise if the files or the command line ask for a sweep of which one run would show nothing."""
    if line.multirun:
        return
    if settings.hydra.sweeper._target_ != BASIC_SWEEPER:
        raise ConfigError("hydra/sweeper must go with a sweep, got one run; add -m")
    given = {key_of(text) for text in line.overrides}
    if swept := [key for key in settings.hydra.sweeper.params or {} if key not in given]:
        keys = ", ".join(swept)
        raise ConfigError(f"hydra.sweeper.params must go with -m, got one run of a sweep over {keys}; add -m")


def _run_one(experiment: schema.Experiment) -> int:
    """Run one experiment; what failed before is tried again, what has finished is shown."""
    from molex_cli.data import reading, same_run

    done = same_run.ended(experiment)
    if done is not None and done.record is not None and done.record.status == "finished":
        positive = done.record.evaluation.get("positive")
        scores = done.record.scores["last"]["scores"]
        named = {scored_class(name, positive): math.nan if value is None else value for name, value in scores.items()}
        say("  ".join(f"{name} {value:.4f}" for name, value in named.items()))
        say(f"finished before  {done.folder}/record.json  (resume=never runs it again beside it)")
        return 0
    if experiment.resume is Resume.missing:
        experiment.resume = Resume.failed
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts the first one speaks
        say(f"reading {experiment.task.name}, then loading transformers / {experiment.model.name} ...", flush=True)
    require_usable({experiment.log.wandb})
    rows = reading.read_all(experiment)  # what is wrong with them is said before seconds of loading
    from molex_cli.launching.torchrun import run_here

    try:
        run_here(experiment, rows=rows)
    except MolexError as error:
        if getattr(error, "__notes__", None):  # its record and its last line already say so
            return 2
        raise
    except Exception as error:
        traceback.print_exception(error)
        return 1
    return 0


def _require_own_rows(experiments: Sequence[schema.Experiment]) -> None:
    """Raise before a sweep begins if files of one's own cannot be what its jobs train on."""
    from molex_cli.data import reading

    own: dict[str, schema.Experiment] = {}
    for each in experiments:
        if any(task.files.train for task in (each.task, *each.stages.values())):
            own.setdefault(
                str((each.task, each.stages, each.data_dir, each.train.max_rows, each.train.selection)), each
            )
    all_of({key: partial(reading.read_all, each) for key, each in own.items()})


def _slots(devices: Sequence[str], jobs_per_device: int) -> int:
    """Return how many jobs run at once: so many on each device, or so many in all where none is leased."""
    return max(1, len(devices)) * jobs_per_device


def require_writable(output_dir: str) -> None:
    """Raise before anything is loaded if the runs' folder cannot be made or written to."""
    try:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise records.unwritable(output_dir, error) from None
