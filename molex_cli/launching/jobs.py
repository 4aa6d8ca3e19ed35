"""One job of a sweep, wherever a launcher starts it: each function here moves it from one state to the next.

`status.py` has the table of the states.
"""

import contextlib
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from molex_cli.config import run_id, schema
from molex_cli.data import same_run
from molex_cli.errors import MolexError, RecordError
from molex_cli.launching.devices import lease
from molex_cli.launching.job_process import run_in_own_process, run_in_this_process
from molex_cli.launching.status import (
    JobState,
    Status,
    failure,
    read_status,
    status_of_folder,
    status_of_lock,
    status_of_record,
    write_status,
)
from molex_cli.records import disk_error, locks
from molex_cli.records.locks import RunLock, State

STOPPED = "the sweep was stopped, by a failure with fail_fast or by Ctrl-C"
WITHOUT_END = "the run's record must say how it ended, got running still; repeat the command"
STOP = "stop"  # a file of this name in the sweep's folder lets no further job start


def write_earlier_end(job: Path, experiment: schema.Experiment) -> None:
    """Waiting to an end: the run has ended before the sweep, or its record cannot be read."""
    try:
        found = same_run.ended(experiment)
    except RecordError as error:
        write_status(job, Status(JobState.failed, error=f"{error}; resume=never starts over beside it"))
    except MolexError:
        return  # the job says so itself when its turn comes
    else:
        if found is not None:
            write_status(job, status_of_lock(found))


def resumes(experiment: schema.Experiment) -> bool:
    """Return whether the last try of a run was interrupted, so that its job does not start it anew."""
    if experiment.resume is locks.Resume.never:
        return False
    with contextlib.suppress(RecordError):
        tries = locks.tries(experiment.output_dir, run_id.run_name(experiment))
        record = locks.record_of(tries[-1]) if tries else None
        return record is not None and record.status in ("interrupted", "running") and not locks.is_locked(tries[-1])
    return False


def run_frozen(job: Path) -> Status:
    """Waiting to an end: run a frozen job, unless it has ended, another process has its run or the sweep is stopped."""
    try:
        status = _run_on_device(job, run_id.load_settings(job))
    except Exception as error:
        status = failure(error)
        if not (isinstance(error, MolexError) or disk_error(error)):
            traceback.print_exception(error)
    write_status(job, status)
    return status


def take_status(job: Path, returned: Any) -> None:
    """Take the end of a job that its process on another machine, or a worker, returned and could not write."""
    if isinstance(returned, dict) and returned and not read_status(job).state.is_end:
        write_status(job, Status(**returned))


def settle_abandoned(job: Path) -> None:
    """Waiting or running to an end, now that the launcher is gone: not started, or what the record says."""
    status = read_status(job)
    if status.state is JobState.waiting:
        write_status(job, Status(JobState.not_started))
    if status.state is JobState.running and status.folder and not is_running(job):
        folder = Path(status.folder)
        locks.settle(folder, None, status="interrupted")
        # That its process ended with the launcher is in its record; who pressed Ctrl-C knows.
        write_status(job, replace(status_of_folder(folder, JobState.interrupted), ran=True, error=None))


def is_running(job: Path) -> bool:
    """Return whether a process works on a job's run."""
    status = read_status(job)
    return status.state is JobState.running and locks.is_locked(Path(status.folder or ""))


def stop(sweep: Path) -> None:
    """Let no further job of a sweep start."""
    with contextlib.suppress(OSError):  # without room for it, the jobs that wait end for the same reason
        (sweep / STOP).touch()


def _run_on_device(job: Path, experiment: schema.Experiment) -> Status:
    """Run a job when a device is free; its failure may stop the sweep."""
    sweep = job.parent.parent
    with lease(experiment.hardware.devices, experiment.hardware.jobs_per_device) as device:
        if (sweep / STOP).exists():
            return Status(JobState.not_started, error=STOPPED)
        status = _run_if_free(job, experiment, device)
        if experiment.fail_fast and status.ran and status.state is JobState.failed:
            stop(sweep)
        return status


def _run_if_free(job: Path, experiment: schema.Experiment, device: str | None) -> Status:
    """Run a job in its run's folder, unless that is another process's or the run has ended."""
    lock = _lock(read_status(job), experiment)
    try:
        status = _run(job, experiment, lock, device) if lock.state is State.ours else status_of_lock(lock)
    finally:
        lock.release()
    return status if lock.folder.exists() else replace(status, folder=None)


def _lock(before: Status, experiment: schema.Experiment) -> RunLock:
    """Return the folder of a job's run: the one it had before if a cluster has queued it again."""
    if before.ran and before.folder is not None:
        return locks.acquire_again(Path(before.folder))
    return same_run.acquired(experiment)


def _run(job: Path, experiment: schema.Experiment, lock: RunLock, device: str | None) -> Status:
    """Waiting to running, and return the end; at Ctrl-C, to interrupted."""
    write_status(job, Status(JobState.running, str(lock.folder), ran=True))
    started = time.monotonic()
    start = run_in_own_process if experiment.isolate else run_in_this_process
    try:
        start(job, experiment, lock, device)
    except BaseException:
        status = status_of_record(lock.folder, locks.record_of(lock.folder), JobState.interrupted)
        write_status(job, replace(status, ran=True, seconds=time.monotonic() - started))
        raise
    return replace(_end(job, lock.folder), ran=True, seconds=time.monotonic() - started)


def _end(job: Path, folder: Path) -> Status:
    """Return how a run ended: as its record says, unless its process wrote an error into the status file."""
    status = status_of_folder(folder, JobState.failed, "the run's process ended before the run began")
    reported = read_status(job)
    if reported.state in (JobState.failed, JobState.interrupted):
        return replace(status, state=reported.state, error=reported.error)
    return status if status.state.is_end else replace(status, state=JobState.interrupted, error=WITHOUT_END)
