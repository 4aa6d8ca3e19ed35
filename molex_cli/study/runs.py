"""The runs of a study: those that are there already, and those that it has launched."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from molex_cli.compare.loading import Run, has_diverged
from molex_cli.config.run_id import Job
from molex_cli.data import same_run
from molex_cli.errors import MolexError
from molex_cli.records import Record, read_record

SHOWN = 3


class UnfinishedError(MolexError):
    """A study that cannot go on before something is done about some of its runs."""


@dataclass(frozen=True)
class Ended:
    """What became of a job that was launched."""

    state: str
    folder: str | None
    error: str | None = None


Launch = Callable[[Sequence[Job], Sequence[str]], Sequence[Ended]]
"""Runs jobs, on whatever launcher; the lines say in the meantime what they are for. Ctrl-C is a KeyboardInterrupt."""


class Runs:
    """Gives the run of a job, launching what is missing, once for each of the study's looks."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self.launched = 0

    def of(self, jobs: Sequence[Job], about: Sequence[str], *, may_diverge: bool = False) -> list[Run]:
        """Return the runs of jobs, in their order; raise UnfinishedError if one did not finish.

        A run whose loss was not finite is returned too where `may_diverge`; it has no scores.
        """
        found = {number: run for number, job in enumerate(jobs) if (run := _ended(job))}
        missing = [number for number in range(len(jobs)) if number not in found]
        self.launched += len(missing)
        ended = self._launch([jobs[number] for number in missing], about) if missing else []
        problems = []
        for number, end in zip(missing, ended, strict=True):
            run = _run_of(end)
            if run is None or end.state not in ("finished", "failed"):
                problems.append(f"{' '.join(jobs[number].values)}: {end.error or end.state}")
            else:
                found[number] = run
        problems += list(_failed(zip(jobs, map(found.get, range(len(jobs))), strict=True), may_diverge))
        if problems:
            more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
            raise UnfinishedError(
                f"a study needs every run that it asks for, got: {'; '.join(problems[:SHOWN])}{more}; "
                "the same command resumes, with resume=failed it tries again what failed"
            )
        return [found[number] for number in range(len(jobs))]


def _ended(job: Job) -> Run | None:
    """Return the run of a job if it has ended and is to be left so."""
    lock = same_run.ended(job.experiment)
    return None if lock is None or lock.record is None else Run(lock.folder, lock.record)


def _run_of(end: Ended) -> Run | None:
    return Run(Path(end.folder), read_record(Path(end.folder))) if end.folder else None


def _failed(found: Iterable[tuple[Job, Run | None]], may_diverge: bool) -> Iterable[str]:
    for job, run in found:
        if run is None or run.record.status == "finished" or (may_diverge and has_diverged(run)):
            continue
        yield f"{' '.join(job.values)}: {_error(run.record)}"


def _error(record: Record) -> str:
    message = record.error["message"] if record.error else ""
    return message.splitlines()[0] if message else str(record.status)
