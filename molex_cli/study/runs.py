"""The runs of a study: those that are there already, and those that it has launched."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from molex_cli.compare.loading import Run, has_diverged
from molex_cli.config.run_id import Job
from molex_cli.data import same_run
from molex_cli.errors import MolexError, RecordError
from molex_cli.records import locks, read_record
from molex_cli.runtime.streams import say

SHOWN = 3
POLL_SECONDS = 1.0


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

    def __init__(self, launch: Launch, begin: Callable[[], None]) -> None:
        """`begin` is called before the first run is looked for."""
        self._launch, self._begin = launch, cache(begin)
        self.launched = 0

    def of(self, jobs: Sequence[Job], about: Sequence[str], *, may_diverge: bool = False) -> list[Run]:
        """Return the runs of jobs, in their order; raise UnfinishedError if one did not finish.

        A run whose loss was not finite is returned too where `may_diverge`; it has no scores.
        """
        self._begin()
        found = {job.values: run for job in jobs if (run := _ended(job))}
        problems: list[str] = []
        while missing := [job for job in jobs if job.values not in found]:
            self.launched += len(missing)
            for job, end in zip(missing, self._launch(missing, about), strict=True):
                if end.state == "elsewhere":
                    _wait(Path(end.folder or ""))
                elif end.folder is None or end.state not in ("finished", "failed"):
                    problems.append(f"{' '.join(job.values)}: {end.error or end.state}")
                else:
                    found[job.values] = Run(Path(end.folder), read_record(Path(end.folder)))
            _require(problems)
            found |= {job.values: run for job in missing if job.values not in found and (run := _ended(job))}
        _require([problem for job in jobs for problem in _problems(job, found[job.values], may_diverge)])
        return [found[job.values] for job in jobs]


def _ended(job: Job) -> Run | None:
    """Return the run of a job if it has ended and is to be left so."""
    try:
        lock = same_run.ended(job.experiment)
    except RecordError as error:
        reason = str(error).partition("; resume=never")[0]
        raise RecordError(f"{reason}; move its folder away, and the study runs it again") from None
    return None if lock is None or lock.record is None else Run(lock.folder, lock.record)


def _wait(folder: Path) -> None:
    """Wait until another process lets go of a run: a sweep, another study, or what a killed one left running."""
    say(f"{folder} is another process's; waiting for it")
    while locks.is_locked(folder):
        time.sleep(POLL_SECONDS)


def _problems(job: Job, run: Run, may_diverge: bool) -> Iterable[str]:
    if run.record.status == "finished" or (may_diverge and has_diverged(run)):
        return
    error = run.record.error
    message = (error["message"].splitlines() if error else []) or [str(run.record.status)]
    repeats = "; that comes again with this seed: tune the learning rate, or lower it" if has_diverged(run) else ""
    yield f"{' '.join(job.values)}: {message[0]}{repeats}"


def _require(problems: Sequence[str]) -> None:
    """Raise UnfinishedError if there are problems."""
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        raise UnfinishedError(
            f"a study needs every run that it asks for, got {'; '.join(problems[:SHOWN])}{more}; "
            "the same command resumes, with resume=failed it tries again what failed"
        )
