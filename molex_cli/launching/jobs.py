"""One job of a sweep, wherever a launcher starts it: frozen settings, a process of its own, its status told.

The status file beside the frozen one says what became of the job; it is how the sweep learns of jobs that
run in another process or on another machine.
"""

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from molex_cli import records
from molex_cli.config import run_id, schema
from molex_cli.errors import RecordError
from molex_cli.launching.devices import lease
from molex_cli.records import locks
from molex_cli.records.locks import RunLock, State
from molex_cli.runtime.signals import SHUTDOWN_GRACE_SECONDS, terminated_as_interrupt

CONSOLE = "console.log"
STOPPED = "the sweep was stopped, by a failure with fail_fast or by Ctrl-C"
STOP = "stop"  # a file of this name in the sweep's folder lets no further job start
ENDED = ("finished", "failed", "interrupted", "elsewhere", "not started")


@dataclass
class Status:
    """What became of a job."""

    state: str = "waiting"
    """waiting, running, finished, failed, interrupted, elsewhere (another process has the run) or not started."""
    folder: str | None = None
    score: float | None = None
    metric: str | None = None
    seconds: float = 0.0
    error: str | None = None
    ran: bool = False
    """Whether this sweep worked on it; else it was there already."""
    degenerate: list[str] = field(default_factory=list)


def read_status(job: Path) -> Status:
    """Return what became of a job so far."""
    path = _status_path(job)
    return Status(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else Status()


def write_status(job: Path, status: Status) -> None:
    """Tell what became of a job."""
    records.write_text(_status_path(job), records.as_json(asdict(status)))


def is_at_work(job: Path) -> bool:
    """Return whether a process works on a job's run."""
    status = read_status(job)
    return status.state == "running" and locks.is_locked(Path(status.folder or ""))


def settle_status(job: Path) -> None:
    """Say of a job that seems to run, or never began, what became of it now that its launcher is gone."""
    status = read_status(job)
    if status.state == "waiting":
        write_status(job, Status("not started"))
    if status.state == "running" and status.folder and not is_at_work(job):
        folder = Path(status.folder)
        locks.settle(folder, None, status="interrupted")
        record = locks.record_of(folder)
        ended = _of_record(folder, record, record.status if record else "interrupted")
        write_status(job, replace(ended, ran=True))


def look(experiment: schema.Experiment) -> Status:
    """Return what is known of a job before it starts: ended already, or waiting."""
    try:
        found = run_id.ended(experiment)
    except RecordError as error:
        return Status("failed", error=f"{error}; resume=never starts over beside it")
    return Status() if found is None else _of_record(found.folder, found.record, found.state.name)


def perform(job: Path) -> Status:
    """Run a frozen job unless another has its run or it has ended, and tell what became of it."""
    try:
        experiment = run_id.load_settings(job)
        with lease(experiment.hardware.devices, experiment.hardware.jobs_per_device) as device:
            status = Status("not started", error=STOPPED) if _is_stopped(job) else _locked(job, experiment, device)
    except Exception as error:
        traceback.print_exception(error)
        status = Status("failed", error=str(error) or type(error).__name__, ran=True)
        write_status(job, status)
        return status
    write_status(job, status)
    if status.state == "failed" and status.ran and experiment.fail_fast:
        stop(job.parent.parent)
    return status


def stop(sweep: Path) -> None:
    """Let no further job of a sweep start."""
    (sweep / STOP).touch()


def _is_stopped(job: Path) -> bool:
    return (job.parent.parent / STOP).exists()


def _locked(job: Path, experiment: schema.Experiment, device: str | None) -> Status:
    before = read_status(job)
    queued_again = before.ran and before.folder is not None
    lock = locks.acquire_again(Path(before.folder or "")) if queued_again else run_id.acquired(experiment)
    try:
        return _performed(job, experiment, lock, device)
    finally:
        lock.release()


def _performed(job: Path, experiment: schema.Experiment, lock: RunLock, device: str | None) -> Status:
    if lock.state is not State.ours:
        return _of_record(lock.folder, lock.record, lock.state.name)
    write_status(job, Status("running", str(lock.folder), ran=True))
    started = time.monotonic()
    try:
        (_isolated if experiment.isolate else _inline)(job, experiment, lock, device)
    except BaseException:
        status = _of_record(lock.folder, locks.record_of(lock.folder), "interrupted")
        write_status(job, replace(status, ran=True, seconds=time.monotonic() - started))
        raise
    record = locks.record_of(lock.folder)
    status = _of_record(lock.folder, record, record.status if record else "failed")
    told = read_status(job)
    if told.state == "failed":
        status.state, status.error = "failed", told.error
    elif record is None:
        status.error = "the run's process ended before the run began"
    status.ran, status.seconds = True, time.monotonic() - started
    return status


def _inline(job: Path, experiment: schema.Experiment, lock: RunLock, device: str | None) -> None:
    """Run in this process: for debuggers, which cannot follow into another."""
    from molex_cli.launching.torchrun import run_here

    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    try:
        run_here(experiment, lock)
    except Exception as error:
        _tell_failure(job, lock.folder, error)


def _isolated(job: Path, experiment: schema.Experiment, lock: RunLock, device: str | None) -> None:
    """Run in a fresh process, forked from a clean one that has only imported what a run needs."""
    context = _server()
    environment = {**os.environ, **({} if device is None else {"CUDA_VISIBLE_DEVICES": device})}
    process = context.Process(target=_child, args=(job, str(lock.folder), environment), name=f"molex {job.stem}")
    process.start()
    try:
        with terminated_as_interrupt():
            process.join()
    except BaseException:  # Ctrl-C, or a scheduler that takes the machine back
        _end(process)
        locks.settle(lock.folder, process.exitcode, unless_record_is=lock.record, status="interrupted")
        raise
    console = lock.folder / CONSOLE
    tail = console.read_text(encoding="utf-8", errors="replace")[-4000:] if console.exists() else ""
    locks.settle(lock.folder, process.exitcode, unless_record_is=lock.record, status="failed", console_tail=tail)


def _server() -> ForkServerContext:
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # A worker of joblib's calls its own way to start processes the default one, which children do not know.
        multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["molex_cli.launching.preload"])
    return context


def _child(job: Path, folder: str, environment: dict[str, str]) -> None:
    """Run one job; its output goes to console.log in its folder."""
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(Path(folder) / CONSOLE, "a", buffering=1, encoding="utf-8") as console:
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
        sys.stdout = sys.stderr = console
        from molex_cli.launching.torchrun import run_here

        try:
            record = locks.record_of(Path(folder))
            run_here(run_id.load_settings(job), RunLock(Path(folder), State.ours, record))
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as error:
            traceback.print_exception(error)
            _tell_failure(job, Path(folder), error)
            sys.exit(1)


def _tell_failure(job: Path, folder: Path, error: Exception) -> None:
    """Tell of an error, also of one that came before the run had a record."""
    write_status(job, Status("failed", str(folder), error=str(error) or type(error).__name__, ran=True))


def _end_with_parent() -> None:
    """End at once when the process that waits for this one is gone: what it did will be done again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(137)


def _end(process: Any) -> None:
    """Tell a job to end, and see to it that it does."""
    process.join(1.0)  # Ctrl-C reaches it too
    if process.is_alive():
        process.terminate()
        process.join(SHUTDOWN_GRACE_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def _of_record(folder: Path, record: records.Record | None, state: str) -> Status:
    if record is None:
        return Status(state, str(folder))
    last = record.scores.get("last", {}).get("scores", {})
    metric = record.scores.get("metric")
    error = (record.error["message"] or record.error["type"]) if record.error else None
    return Status(
        state,
        str(folder),
        score=last.get(metric),
        metric=metric,
        error=error,
        seconds=record.training.get("seconds", 0.0),
        degenerate=record.degenerate,
    )


def _status_path(job: Path) -> Path:
    return job.with_suffix(".status.json")
