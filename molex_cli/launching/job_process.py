"""The process that does a job's run: one of its own, so that no failure reaches other jobs, or this one."""

import io
import multiprocessing
import os
import sys
import threading
import traceback
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

from molex_cli.config import run_id, schema
from molex_cli.launching.status import failure, write_status
from molex_cli.records import locks
from molex_cli.records.locks import RunLock, State
from molex_cli.records.secrets import WithoutSecrets
from molex_cli.runtime.signals import SHUTDOWN_GRACE_SECONDS, terminated_as_interrupt
from molex_cli.runtime.streams import Dropping

TAIL_CHARACTERS = 4000


def run_in_this_process(job: Path, experiment: schema.Experiment, lock: RunLock, device: str | None) -> None:
    """Run here: for debuggers, which cannot follow into another process."""
    from molex_cli.launching.torchrun import run_here

    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    try:
        run_here(experiment, lock)
    except Exception as error:
        write_status(job, failure(error, lock.folder))


def run_in_own_process(job: Path, experiment: schema.Experiment, lock: RunLock, device: str | None) -> None:
    """Run in a fresh process, forked from a clean one that has only imported what a run needs."""
    environment = {**os.environ, **({} if device is None else {"CUDA_VISIBLE_DEVICES": device})}
    process = _server().Process(target=_run_alone, args=(job, lock.folder, environment), name=f"molex {job.stem}")
    process.start()
    try:
        with terminated_as_interrupt():
            process.join()
    except BaseException:  # Ctrl-C, or a scheduler that takes the machine back
        _terminate(process)
        locks.settle(lock.folder, process.exitcode, unless_record_is=lock.record, status="interrupted")
        raise
    tail = _console_tail(lock.folder)
    locks.settle(lock.folder, process.exitcode, unless_record_is=lock.record, status="failed", console_tail=tail)


def _server() -> ForkServerContext:
    """Return what starts processes from the clean one."""
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # A worker of joblib's calls its own way to start processes the default one, which children do not know.
        multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["molex_cli.launching.preload"])
    return context


def _run_alone(job: Path, folder: Path, environment: dict[str, str]) -> None:
    """Run one job in the process made for it; its output goes to console.log in its folder."""
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with _console(folder) as console:
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
        sys.stdout = sys.stderr = console
        sys.exit(_exit_code(job, folder))


def _console(folder: Path) -> TextIO:
    """Open the file that takes the job's output, without secrets; without room for it the output goes nowhere."""
    try:
        raw = Dropping(folder / locks.CONSOLE, "a")
    except OSError:
        raw = Dropping(os.devnull, "a")
    return WithoutSecrets(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _exit_code(job: Path, folder: Path) -> int:
    """Do the run, write an error that ends it into the job's status, and return the exit code."""
    from molex_cli.launching.torchrun import run_here

    try:
        run_here(run_id.load_settings(job), RunLock(folder, State.ours, locks.record_of(folder)))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        traceback.print_exception(error)
        write_status(job, failure(error, folder))
        return 1
    return 0


def _end_with_parent() -> None:
    """End at once when the process that waits for this one is gone: what it did will be done again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(137)


def _terminate(process: BaseProcess) -> None:
    """Ask a process to end, and kill it if it does not."""
    process.join(1.0)  # Ctrl-C reaches it too
    if process.is_alive():
        process.terminate()
        process.join(SHUTDOWN_GRACE_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def _console_tail(folder: Path) -> str:
    path = folder / locks.CONSOLE
    return path.read_text(encoding="utf-8", errors="replace")[-TAIL_CHARACTERS:] if path.exists() else ""
