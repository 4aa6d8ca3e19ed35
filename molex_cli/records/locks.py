"""Which folder a run gets, and that nobody else writes into it; no torch.

A run is its variant and its seed. The folder of that name is locked while a process works on it. File locks need no
server, hold across launchers and machines that share the disk, and the operating system lets go of them when the
process ends, however it ends.
"""

import re
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from filelock import FileLock, Timeout

from molex_cli.errors import RecordError
from molex_cli.records import Record, index, read_record, unwritable, write_record

WAIT_SECONDS = 5.0  # a process that was just killed may hold the lock that long
LOCK = ".lock"
MOST_CHARACTERS = 200  # of a folder's name; file systems take 255, and other files are named after it


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
        """Let others have the folder."""
        if self.lock is not None:
            self.lock.release()


def acquire(output_dir: str, name: str, resume: Resume, wait: float = WAIT_SECONDS) -> RunLock:
    """Return the folder of a run, locked where there is something to do in it."""
    slug = _slug(name)
    try:
        if resume is Resume.never:
            return _locked(_new_folder(output_dir, slug), resume, wait)
        folder = _latest(output_dir, slug)
        finished = _ended(folder, resume)
        if finished is not None:
            return finished
        folder.mkdir(parents=True, exist_ok=True)
        return _locked(folder, resume, wait)
    except OSError as error:
        raise unwritable(output_dir, error) from None


def ended(output_dir: str, name: str, resume: Resume) -> RunLock | None:
    """Return the run of this name if it has ended and is to be left so."""
    return None if resume is Resume.never else _ended(_latest(output_dir, _slug(name)), resume)


def acquire_again(folder: Path, wait: float = WAIT_SECONDS) -> RunLock:
    """Return the folder that a job which was queued again had before."""
    return _locked(folder, Resume.missing, wait)


def is_locked(folder: Path) -> bool:
    """Return whether a process works on a run's folder."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def settle(
    folder: Path,
    exit_code: int | None,
    *,
    status: str,
    unless_record_is: Record | None = None,
    only_if_status_in: tuple[str, ...] = ("running",),
    error: dict[str, str] | None = None,
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
    if unless_record_is is not None and _same_try(record, unless_record_is):
        return
    record.status, record.finished = status, datetime.now(UTC).isoformat(timespec="seconds")
    message = f"the run's process exited without writing a record ({_how(exit_code)})"
    record.error = error or {"type": "ProcessEnded", "message": message, "traceback": console_tail}
    write_record(folder, record)
    index.add(folder, record)


def _same_try(one: Record, other: Record) -> bool:
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


def _locked(folder: Path, resume: Resume, wait: float) -> RunLock:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        return RunLock(folder, State.elsewhere, record_of(folder))
    finished = _ended(folder, resume)  # another process may have ended it while we waited
    if finished is not None:
        lock.release()
        return finished
    return RunLock(folder, State.ours, record_of(folder), lock)


def record_of(folder: Path) -> Record | None:
    """Return the record in a run's folder, if there is one."""
    return read_record(folder) if (folder / "record.json").exists() else None


def _slug(name: str) -> str:
    """Return the name of a run's folder; of a long one the start goes, not the variant and the seed at its end."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    start, *end = slug.rsplit("-", 2)
    return "-".join([start[: MOST_CHARACTERS - sum(len(part) + 1 for part in end)], *end])


def _latest(output_dir: str, slug: str) -> Path:
    """Return the folder of the run's last try; it need not be there."""
    latest, number = Path(output_dir) / slug, 2
    while (following := Path(output_dir) / f"{slug}.{number}").is_dir():
        latest, number = following, number + 1
    return latest


def _new_folder(output_dir: str, slug: str) -> Path:
    """Create and return a folder that was not there; a second run of the same name gets .2, .3, ..."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    for number in range(1, 100_000):
        folder = Path(output_dir) / (slug if number == 1 else f"{slug}.{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise RecordError(f"output_dir must have room for a folder named {slug}, got 99,999 of them")
