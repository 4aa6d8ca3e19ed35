"""What became of a job of a sweep: a file beside its settings, which other processes and machines write; no torch.

A launcher returns only when all its jobs have ended, so these files are how a sweep follows them.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from molex_cli import records
from molex_cli.errors import DiskError, RecordError
from molex_cli.metrics.base import scored_class
from molex_cli.records import locks
from molex_cli.records.locks import RunLock
from molex_cli.records.reading import read_json


class JobState(StrEnum):
    """The state of a job, as its status file names it.

    | state       | end | written by                                                 | followed by         |
    |-------------|-----|------------------------------------------------------------|---------------------|
    | waiting     | no  | nobody: there is no status file yet                        | any other state     |
    | running     | no  | `run_frozen`, when it has locked the run's folder          | any end             |
    | finished    | yes | `run_frozen`; `write_earlier_end`                          |                     |
    | failed      | yes | `run_frozen`; `write_earlier_end`; the run's own process   | failed (1)          |
    | interrupted | yes | as failed, by Ctrl-C, SIGTERM or a disk; `settle_abandoned` | running, an end (2) |
    | elsewhere   | yes | `run_frozen`: another process has locked the run's folder  |                     |
    | not started | yes | `run_frozen` in a stopped sweep; `settle_abandoned`        |                     |

    The run's own process is in `job_process.py`, all other writers are in `jobs.py`.
    1. The run's own process writes its error, then `run_frozen` adds the time, and the score if there is one.
    2. A cluster queues a job again that it interrupted or killed: `run_frozen` begins anew, also after running.
    """

    waiting = "waiting"
    running = "running"
    finished = "finished"
    failed = "failed"
    interrupted = "interrupted"
    elsewhere = "elsewhere"
    not_started = "not started"

    @property
    def is_end(self) -> bool:
        """Whether the sweep has nothing to wait for."""
        return self not in (JobState.waiting, JobState.running)


@dataclass
class Status:
    """What became of a job."""

    state: JobState = JobState.waiting
    folder: str | None = None
    score: float | None = None
    metric: str | None = None
    """Its name, with the class that it scores."""
    seconds: float = 0.0
    error: str | None = None
    ran: bool = False
    """Whether this sweep worked on it; else it was there already."""
    degenerate: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = JobState(self.state)  # a file has its word


def status_path(job: Path) -> Path:
    """Return the status file of a frozen job."""
    return job.with_suffix(".status.json")


def read_status(job: Path) -> Status:
    """Return what became of a job so far."""
    if (known := _unwritten(job)) is not None:
        return known
    path = status_path(job)
    if not path.exists():
        return Status()
    try:
        return Status(**read_json(path, "the status of a job", Status))
    except (RecordError, TypeError) as error:
        return Status(JobState.failed, error=str(error))


def write_status(job: Path, status: Status) -> None:
    """Write what became of a job; where the disk refuses that, this process at least knows it."""
    try:
        records.write_text(status_path(job), records.as_json(asdict(status)))
        _UNWRITTEN.pop(job.resolve(), None)
    except OSError as error:
        if not records.disk_error(error):
            raise
        _UNWRITTEN[job.resolve()] = status


def version_of(job: Path) -> object:
    """Return what is another thing after every change of a job's status; None before there is one."""
    if (known := _unwritten(job)) is not None:
        return known
    try:
        file = status_path(job).stat()
    except FileNotFoundError:
        return None
    return file.st_ino, file.st_mtime_ns  # two files of one moment differ in the first


def _unwritten(job: Path) -> Status | None:
    return _UNWRITTEN.get(job.resolve()) if _UNWRITTEN else None


_UNWRITTEN: dict[Path, Status] = {}
"""By job, what a disk without room did not take."""


def failure(error: Exception, folder: Path | None = None) -> Status:
    """Return the status of a job that an error ended, whether or not its run had a record by then."""
    error = records.disk_error(error) or error
    message = str(error) or type(error).__name__
    state = JobState.interrupted if isinstance(error, DiskError) else JobState.failed
    return Status(state, str(folder) if folder else None, error=message, ran=True)


def status_of_lock(lock: RunLock) -> Status:
    """Return the status of a job whose run has ended or is another process's."""
    return status_of_record(lock.folder, lock.record, JobState(lock.state.value))


def status_of_folder(folder: Path, without_record: JobState, error: str | None = None) -> Status:
    """Return the status that the record of a job's run gives it, or a state and an error where there is no record."""
    record = locks.record_of(folder)
    if record is None:
        return Status(without_record, str(folder), error=error)
    return status_of_record(folder, record, JobState(record.status))


def status_of_record(folder: Path, record: records.Record | None, state: JobState) -> Status:
    """Return a status with score, error and time of the run's record, if there is one."""
    if record is None:
        return Status(state, str(folder))
    last = record.evaluated("last")
    metric = record.scores.get("metric")
    score = last["scores"].get(metric) if last and metric else None
    error = (record.error["message"] or record.error["type"]) if record.error else None
    seconds = record.training.get("seconds", 0.0)
    shown = metric and scored_class(metric, record.evaluation.get("positive"))
    return Status(state, str(folder), score, shown, seconds, error, degenerate=record.degenerate)
