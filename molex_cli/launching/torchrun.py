"""Start a run as its hardware settings ask: in this process, or in several that torchrun starts."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from molex_cli import records
from molex_cli.analysis.allocating import frozen
from molex_cli.config import run_id
from molex_cli.config.schema import Experiment
from molex_cli.data import same_run
from molex_cli.data.reading import Rows
from molex_cli.errors import ConfigError, MolexError, RecordError, TrainingError
from molex_cli.records import locks
from molex_cli.records.locks import RunLock, State
from molex_cli.records.parts import Failure
from molex_cli.records.reading import read_json
from molex_cli.run import run
from molex_cli.runtime import hardware
from molex_cli.runtime.signals import SHUTDOWN_GRACE_SECONDS, terminated_as_interrupt

JOB = ".processes.json"  # settings for the processes of a run, while it runs
ERROR = ".error-"  # the error of a process of a run, by rank
LAUNCHER = "MOLEX_LAUNCHER"  # the process that holds the run's folder
WATCH_SECONDS = 0.2


def run_here(experiment: Experiment, lock: RunLock | None = None, rows: Rows | None = None) -> records.Record:
    """Run an experiment and return its record, or the record of the run that there is; a failure raises.

    `rows` are those of the experiment, where they have been read.
    """
    experiment = frozen(experiment)
    started_by_others = hardware.shared_by_others()
    count = started_by_others or hardware.process_count(experiment.hardware)
    if experiment.hardware.shard and count == 1:
        raise ConfigError("hardware.shard must have several processes to divide weights among, got 1")
    if started_by_others or count == 1:
        return run(experiment, lock=lock, rows=rows)
    own = lock or same_run.acquired(experiment)
    try:
        return _shared(experiment, own, count) if own.state is State.ours else run(experiment, lock=own)
    finally:
        own.release()


def _shared(experiment: Experiment, lock: RunLock, count: int) -> records.Record:
    """Let several processes do a run together; the first one writes."""
    folder = lock.folder
    run_id.save_settings(folder / JOB, experiment)
    module = "molex_cli.launching.processes"
    torchrun = [sys.executable, "-m", module, "--standalone", f"--nproc-per-node={count}", "-m", module]
    environment = {**os.environ, LAUNCHER: str(os.getpid())}
    # In a session of its own, or a terminal's Ctrl-C would reach it beside what we pass on.
    process = subprocess.Popen([*torchrun, str(folder / JOB)], env=environment, start_new_session=True)
    try:
        with terminated_as_interrupt():
            code = process.wait()
    except BaseException as error:
        _end(process, signal.SIGTERM if str(error) == "SIGTERM" else signal.SIGINT)
        locks.settle(folder, process.returncode, unless_record_is=lock.record, status="interrupted")
        if _says_its_end(record := locks.record_of(folder)) and record != lock.record:
            error.add_note(f"recorded in {folder}/record.json")
        raise
    finally:
        (folder / JOB).unlink(missing_ok=True)
        first = _first_error(folder)
    # torchrun ends the others when one process dies, which the first one takes for an interruption.
    unsettled = ("running", "interrupted", "failed") if first else ("running", "interrupted")
    if code:
        locks.settle(
            folder, code, unless_record_is=lock.record, status="failed", only_if_status_in=unsettled, error=first
        )
    record = locks.record_of(folder)
    if code or record is None or record.status != "finished":
        message = first["message"] if first else f"the processes of a run must end well, got exit code {code}"
        raise TrainingError(message)
    return record


def _end(process: subprocess.Popen, number: signal.Signals) -> None:
    """Pass a signal on to torchrun and so to all processes, and wait until they have written what they must."""
    process.send_signal(number)
    try:
        process.wait(SHUTDOWN_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _says_its_end(record: records.Record | None) -> bool:
    """Return whether the first process of a run ended it itself, and so with a line."""
    return record is not None and record.error is not None and record.error["type"] == "KeyboardInterrupt"


class ProcessFailure(TypedDict):
    """The error of a process, and when it came."""

    type: str
    message: str
    traceback: str
    time: float


def _first_error(folder: Path) -> Failure | None:
    """Return the error of the first process that failed, and remove the files with the errors of all."""
    errors = []
    for path in folder.glob(f"{ERROR}*"):
        with suppress(RecordError):  # half of one, of a process that was killed while it wrote
            errors.append(read_json(path, "the error of a process", ProcessFailure))
        path.unlink()
    first = min(errors, key=lambda each: each["time"], default=None)
    return {"type": first["type"], "message": first["message"], "traceback": first["traceback"]} if first else None


def part(job: Path) -> int:
    """Do the part of one process of a run."""
    threading.Thread(target=_end_with_launcher, args=(int(os.environ[LAUNCHER]), os.getppid()), daemon=True).start()
    try:
        run(run_id.load_settings(job), lock=RunLock(job.parent, State.ours, locks.record_of(job.parent)))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        content = records.error_of(error) | {"time": time.time()}
        records.write_text(job.parent / f"{ERROR}{os.environ['RANK']}", records.as_json(content))
        if isinstance(error, MolexError):
            return 2  # the process that started this one reports it
        raise
    return 0


def _end_with_launcher(launcher: int, torchrun: int) -> None:
    """End at once when the process that holds the run's folder, or torchrun, is gone."""
    while os.getppid() == torchrun and _is_alive(launcher):
        time.sleep(WATCH_SECONDS)
    os._exit(137)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
