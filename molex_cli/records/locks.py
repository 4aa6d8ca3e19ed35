"""Which folder a run gets, and that nobody else writes into it; no torch.

A run is its variant, its seed and what it is made from. Its folder is locked while a process works on it. File locks
need no server, hold across launchers and machines that share the disk, and the operating system lets go of them when
the process ends, however it ends.
"""

import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from molex_cli.errors import RecordError
from molex_cli.records import (
    Record,
    as_json,
    index,
    read_record,
    tidying,
    unwritable,
    write_record,
    write_text,
)
from molex_cli.records.folders import by_number, free_folder, new_folder, slug_of
from molex_cli.records.made_from import differences, of_record
from molex_cli.records.parts import Failure, Status
from molex_cli.records.reading import read_json
from molex_cli.runtime.streams import say

WAIT_SECONDS = 5.0  # a process that was just killed may hold the lock that long
LOCK = ".lock"
CONSOLE = "console.log"  # the output of a job of a sweep
BEGUN = ".begun.json"  # what a run is made from, until its record says it


class Resume(Enum):
    """What to do about a run that is there already.

    `missing` resumes what was interrupted and leaves what has ended, `failed` tries failures again,
    `never` starts over beside the old ones.
    """

    missing = "missing"
    failed = "failed"
    never = "never"


class State(Enum):
    """Whose turn it is: `ours` to work on, `elsewhere` another process's, `finished` or `failed` nobody's."""

    ours = "ours"
    elsewhere = "elsewhere"
    finished = "finished"
    failed = "failed"


@dataclass
class RunLock:
    """A run's folder, its state and record, and the lock on it if it is ours."""

    folder: Path
    state: State
    record: Record | None = None
    lock: FileLock | None = None

    def release(self) -> None:
        """Let others have the folder; one in which no run began goes."""
        if self.lock is not None:
            if not (self.folder / "record.json").exists():
                _discard(self.folder)
            self.lock.release()


def acquire(
    output_dir: str, name: str, resume: Resume, now: Mapping[str, Any] | None = None, wait: float = WAIT_SECONDS
) -> RunLock:
    """Return the folder of a run, locked where there is something to do in it.

    `now` is what the run is made from. Of the folders of this name the last one with a run made from the same is its
    folder; if there is none, it gets a new one beside them.
    """
    slug, now = slug_of(name), now or {}
    try:
        if resume is Resume.never:
            return _begun(_locked(new_folder(output_dir, slug), resume, wait), now)
        while True:
            folder = _same_try(output_dir, slug, now, wait) or free_folder(output_dir, slug)
            found = _ended_and_tidied(folder, resume)
            if found is None:
                folder.mkdir(parents=True, exist_ok=True)
                found = _locked(folder, resume, wait)
            if not differences(_made_from(folder) or {}, now):
                return _begun(found, now)
            found.release()  # another run began there meanwhile
    except OSError as error:
        raise unwritable(output_dir, error) from None


def ended(output_dir: str, name: str, resume: Resume, now: Mapping[str, Any] | None = None) -> RunLock | None:
    """Return the run of this name if it has ended and is to be left so."""
    folder = None if resume is Resume.never else _same_try(output_dir, slug_of(name), now or {}, 0.0)
    return None if folder is None else _ended_and_tidied(folder, resume)


def tries(output_dir: str, name: str) -> list[Path]:
    """Return the folders of all tries of a name, the first one first."""
    return [folder for _, folder in sorted(by_number(output_dir, slug_of(name)).items())]


def acquire_again(folder: Path, wait: float = WAIT_SECONDS) -> RunLock:
    """Return the folder that a job which was queued again had before."""
    folder.mkdir(parents=True, exist_ok=True)
    return _locked(folder, Resume.missing, wait)


def is_locked(folder: Path) -> bool:
    """Return whether a process works on a run's folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError as error:
        raise RecordError(f"{folder / LOCK} must be a file that can be locked, got {error.strerror}") from None


def settle(
    folder: Path,
    exit_code: int | None,
    *,
    status: Status,
    unless_record_is: Record | None = None,
    only_if_status_in: tuple[str, ...] = ("running",),
    error: Failure | None = None,
    console_tail: str = "",
) -> None:
    """Complete the record of a process that ended without doing so itself.

    The record changes only if its status is one of `only_if_status_in`, and not if it is still the attempt
    `unless_record_is`, read before the process began: then the process did not touch it. For example, a run that
    the system killed left the status "running"; `settle(folder, -9, status="failed", unless_record_is=lock.record)`
    makes it "failed", with the error "... (killed by SIGKILL, perhaps for lack of memory)". `console_tail` becomes
    the error's traceback, and `error`, if given, replaces the whole error.
    """
    record = record_of(folder)
    if record is None or record.status not in only_if_status_in:
        return
    if unless_record_is is not None and _one_attempt(record, unless_record_is):
        return
    record.status, record.finished = status, datetime.now(UTC).isoformat(timespec="seconds")
    message = f"the run's process exited without writing a record ({_how(exit_code)})"
    record.error = error or {"type": "ProcessEnded", "message": message, "traceback": console_tail}
    with suppress(OSError):  # without room it stays "running", which the next start takes for interrupted
        write(folder, record)


def write(folder: Path, record: Record) -> None:
    """Write a run's record, and its copy in the index if that can be written."""
    write_record(folder, record)
    with suppress(OSError):
        index.add(folder, record)


def _one_attempt(one: Record, other: Record) -> bool:
    return (one.started, one.environment.get("pid")) == (other.started, other.environment.get("pid"))


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "killed together with its launcher"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    lack = ", perhaps for lack of memory" if exit_code == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-exit_code).name}{lack}"


def _ended(folder: Path, resume: Resume) -> RunLock | None:
    """Return the run in a folder if it has ended and is to be left so."""
    record = record_of(folder)
    if record is None or record.status not in ("finished", "failed"):
        return None
    if record.status == "failed" and resume is Resume.failed:
        return None
    return RunLock(folder, State[record.status], record)


def _ended_and_tidied(folder: Path, resume: Resume) -> RunLock | None:
    """Return the same; what its process was killed before is done now, unless another has the folder."""
    found = _ended(folder, resume)
    if found is not None and tidying.left_over(folder, found.record):
        with suppress(OSError), FileLock(folder / LOCK, timeout=0):
            tidying.tidy(folder, found.record)
    return found


def _locked(folder: Path, resume: Resume, wait: float) -> RunLock:
    lock = FileLock(folder / LOCK)
    if not _taken(lock, folder, wait):
        return RunLock(folder, State.elsewhere, record_of(folder))
    found = _ended(folder, resume) or RunLock(folder, State.ours, record_of(folder), lock)
    tidying.tidy(folder, found.record)
    if found.lock is None:  # another process ended it while we waited
        lock.release()
    return found


def _taken(lock: FileLock, folder: Path, wait: float) -> bool:
    """Take the lock; where that needs waiting, say so first."""
    try:
        lock.acquire(timeout=0)
        return True
    except Timeout:
        if not wait:
            return False
    whose = holder(record_of(folder))
    say(f"note: {folder} is the work of {whose} now; waiting {wait:g} s for it", file=sys.stderr, flush=True)
    with suppress(Timeout):
        lock.acquire(timeout=wait)
    return lock.is_locked


def holder(record: Record | None) -> str:
    """Return who works on a run, in words: its record says which process, once there is one."""
    about = record.environment if record is not None and record.status == "running" else {}
    return f"process {about['pid']} on {about['host']}" if {"pid", "host"} <= about.keys() else "another process"


def record_of(folder: Path) -> Record | None:
    """Return the record in a run's folder, if there is one."""
    return read_record(folder) if (folder / "record.json").exists() else None


def _discard(folder: Path) -> None:
    """Remove a folder that holds nothing but what is there before a run begins."""
    if {path.name for path in folder.iterdir()} <= {LOCK, BEGUN, CONSOLE}:
        shutil.rmtree(folder, ignore_errors=True)


def _same_try(output_dir: str, slug: str, now: Mapping[str, Any], wait: float) -> Path | None:
    """Return the last try that was made from the same, or of which nothing is known."""
    for _, folder in sorted(by_number(output_dir, slug).items(), reverse=True):
        deadline = time.monotonic() + wait
        while (before := _made_from(folder)) is None and is_locked(folder) and time.monotonic() < deadline:
            time.sleep(0.05)  # it has just been locked
        if not differences(before or {}, now):
            return folder
    return None


def _made_from(folder: Path) -> dict[str, Any] | None:
    """Return what the run of a folder was made from, as its record says or, before there is one, its lock."""
    try:
        record = record_of(folder)
    except RecordError as error:
        raise RecordError(f"{error}; resume=never starts over beside it") from None
    if record is not None:
        return of_record(record)
    begun = folder / BEGUN
    try:
        return read_json(begun, "what a run is made from", dict[str, Any]) if begun.exists() else None
    except RecordError:
        return None  # damaged: no run began there, and whoever takes the folder writes it anew


def _begun(lock: RunLock, now: Mapping[str, Any]) -> RunLock:
    """Say what a run of ours is made from before it has a record: jobs of one name may start together."""
    if lock.state is State.ours and lock.record is None:
        try:
            write_text(lock.folder / BEGUN, as_json(now))
        except OSError:
            lock.release()
            raise
    return lock
