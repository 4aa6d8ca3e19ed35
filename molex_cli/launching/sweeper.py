"""A sweep, from its jobs to its table.

Hydra's launchers run the jobs. Freezing their settings is ours, since Hydra composes a job's settings when it starts
it: a YAML file that is edited meanwhile would change the jobs that still wait.
"""

import contextlib
import copy
import itertools
import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from molex_cli import records
from molex_cli.config import environment, run_id
from molex_cli.config.command_line import CommandLine
from molex_cli.config.hydra_internals import Callbacks
from molex_cli.config.parsing import one_line
from molex_cli.config.run_id import Job
from molex_cli.errors import ConfigError
from molex_cli.launching.jobs import (
    is_running,
    resumes,
    run_frozen,
    settle_abandoned,
    stop,
    take_status,
    write_earlier_end,
)
from molex_cli.launching.shown import say_line, show_rows
from molex_cli.launching.status import JobState, Status, read_status
from molex_cli.launching.view import View
from molex_cli.records.partial import remove_stale
from molex_cli.runtime.signals import SHUTDOWN_GRACE_SECONDS, terminated_as_interrupt
from molex_cli.runtime.terminal import Terminal, styled

QUEUE = "slurm"  # submitit's folder of a sweep
QUEUE_SECONDS = 5.0


def sweep(jobs: Sequence[Job], settings: DictConfig, typed: CommandLine | None = None) -> int:
    """Run the jobs that are missing, show all of them, and return the exit code: 1 when a job failed, 130 for Ctrl-C.

    `settings` holds Hydra's own part, with the launcher; `typed` is the command line.
    """
    folder = _new_folder(jobs[0].experiment.output_dir)
    view, interrupted = run_all(jobs, settings, folder=folder)
    view.show_end()
    terminal = Terminal(soft_wrap=True)
    if not interrupted:
        _tell_end(jobs, view.statuses, folder, typed)
    if any(status.state is JobState.failed and not status.ran for status in view.statuses):
        terminal.print("resume=failed tries again what failed before")
    if interrupted or any(status.state is JobState.interrupted for status in view.statuses):
        terminal.print("interrupted; the same command resumes with what is missing")
    return 130 if interrupted else _exit_code(view.statuses)


def run_all(
    jobs: Sequence[Job], settings: DictConfig, about: Sequence[str] = (), folder: Path | None = None
) -> tuple[View, bool]:
    """Run the jobs that are missing; return their view, with the statuses, and whether Ctrl-C or SIGTERM ended them.

    The lines `about` stand in the live view. The sweep gets a new folder unless it has one.
    """
    folder = folder or _new_folder(jobs[0].experiment.output_dir)
    paths = _frozen(folder, jobs)
    labels = [" ".join(job.values) or run_id.run_name(job.experiment) for job in jobs]
    missing = [path for path in paths if not read_status(path).state.is_end]
    resumed = sum(resumes(job.experiment) for job, path in zip(jobs, paths, strict=True) if path in missing)
    view = View(paths, labels, about=about, resumed=resumed)
    interrupted = _run_missing(missing, folder, settings, view)
    view.update()
    return view, interrupted


def _tell_end(jobs: Sequence[Job], statuses: Sequence[Status], folder: Path, typed: CommandLine | None) -> None:
    """Print means by arm, why runs failed or say little, what a search found, and what to type next."""
    from molex_cli.launching.ending import HEAD, Ending
    from molex_cli.launching.winner import winners

    ending, terminal = Ending(jobs, statuses), Terminal(soft_wrap=True)
    if means := ending.means():
        terminal.print()
        show_rows(terminal, HEAD, [[styled(cell, "") for cell in row] for row in means])
    for line in ending.reasons():
        say_line(terminal, line)
    found = [*(winners(ending, typed) if typed else ())]
    if command := ending.compare(folder):
        found += ["compare them:", f"  {command}"]
    for line in found:  # commands, which a line's end would cut in two
        terminal.print(line)


def _run_missing(jobs: Sequence[Path], folder: Path, settings: DictConfig, view: View) -> bool:
    """Run jobs until all have ended, and return whether Ctrl-C or SIGTERM ended them."""
    interrupted = False
    try:
        with view, terminated_as_interrupt():
            _launch(jobs, folder, settings)
    except KeyboardInterrupt:
        interrupted = True
        stop(folder)
        _cancel_queue(folder)
    for job in jobs:
        settle_abandoned(job)
    return interrupted


def _exit_code(statuses: Sequence[Status]) -> int:
    succeeded = (JobState.finished, JobState.elsewhere)
    return 0 if all(status.state in succeeded for status in statuses) else 1


def _new_folder(output_dir: str) -> Path:
    """Create and return a folder of this sweep's own."""
    try:
        folder = _first_free(Path(output_dir) / "sweeps", datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        (folder / "jobs").mkdir()
    except OSError as error:
        raise records.unwritable(output_dir, error) from None
    for jobs in folder.parent.glob("*/jobs"):
        remove_stale(jobs)
    return folder


def _first_free(root: Path, name: str) -> Path:
    """Create and return root/name, or name.2, name.3, ... where sweeps that began in the same second have that."""
    root.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = root / (name if number == 1 else f"{name}.{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def _frozen(folder: Path, jobs: Sequence[Job]) -> list[Path]:
    """Write all jobs; a sweep that cannot begin leaves no folder."""
    try:
        records.write_text(folder / "sweep.json", records.as_json({"command": sys.argv[1:]}, indent=2) + "\n")
        return [_freeze(folder, number, job) for number, job in enumerate(jobs)]
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _freeze(folder: Path, number: int, job: Job) -> Path:
    """Write the settings of a job, and its status if its run has ended before; return the job's path."""
    path = folder / "jobs" / f"{number:04}.json"
    run_id.save_settings(path, job.experiment)
    write_earlier_end(path, job.experiment)
    return path


def _launch(jobs: Sequence[Path], folder: Path, settings: DictConfig) -> None:
    if not jobs:
        return
    master = _shared_settings(folder, settings)
    context = HydraContext(config_loader=FrozenLoader(), callbacks=Callbacks())  # type: ignore[arg-type]
    try:
        launcher = Plugins.instance().instantiate_launcher(context, run_job, master)
    except HydraException as error:
        raise ConfigError(f"hydra.launcher must fit the launcher, got: {one_line(error)}") from error
    try:
        returned = launcher.launch([[f"job={path.resolve()}"] for path in jobs], initial_job_idx=0)
        for path, back in zip(jobs, returned, strict=False):
            take_status(path, back.return_value)
    except Exception as error:
        # A launcher gives up at the first job that it lost; the others may still run.
        Terminal(soft_wrap=True).print(f"the launcher lost a job: {error}")
        _wait_for_queue(folder)


def _queued(folder: Path) -> list[Any]:
    """Return the jobs of a sweep that a cluster has or had; submitit keeps a folder for each."""
    paths = list((folder / QUEUE).glob("*_*"))
    if not paths:
        return []
    import submitit

    return [submitit.SlurmJob(folder / QUEUE / "%j", path.name) for path in paths]


def _wait_for_queue(folder: Path) -> None:
    found = _queued(folder)
    while not all(job.done() for job in found):
        time.sleep(QUEUE_SECONDS)


def _cancel_queue(folder: Path) -> None:
    """Cancel the jobs on the cluster, and wait until those that run have written their state."""
    found = _queued(folder)
    for job in found:
        job.cancel()
    deadline = time.monotonic() + SHUTDOWN_GRACE_SECONDS
    while found and time.monotonic() < deadline and any(map(is_running, (folder / "jobs").glob("????.json"))):
        time.sleep(0.5)


@environment.guarded()
def _shared_settings(folder: Path, settings: DictConfig) -> DictConfig:
    """Return the settings that the launcher and every job share: Hydra's own, resolved."""
    own = copy.deepcopy(settings)
    with open_dict(own):
        own.hydra.sweep.dir, own.hydra.sweep.subdir = str(folder), "."
        own.hydra.runtime.cwd = str(Path.cwd())
        own.hydra.run.dir = str(folder)
        OmegaConf.resolve(own.hydra.launcher)
    master = OmegaConf.create({"job": "", "sweep_process": os.getpid(), "folder": str(Path.cwd())})
    master.hydra = own.hydra
    return master


class FrozenLoader:
    """Gives a launcher the settings of a job without composing anything: they were frozen when the sweep began."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the shared settings with the path of the job's own."""
        config = copy.deepcopy(master_config)
        with open_dict(config):
            config.job = sweep_overrides[0].partition("=")[2]
            config.hydra.overrides.task = sweep_overrides
        return config


def run_job(config: DictConfig) -> dict[str, Any]:
    """Run the job that the settings name, in the process where the launcher wants it."""
    os.chdir(config.folder)  # a worker may have been another sweep's before
    try:
        return vars(run_frozen(Path(config.job)))
    except KeyboardInterrupt:
        if os.getpid() == config.sweep_process:
            raise
        return {}  # this job was terminated, not the sweep; its status says so
