"""What a sweep says at its end: means by arm, why runs failed or say little, what to type next; no torch."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from molex_cli.compare.collapse import counted, why
from molex_cli.compare.loading import Run, has_diverged, unscored
from molex_cli.compare.table import Cell
from molex_cli.config.parsing import key_of
from molex_cli.config.run_id import Job
from molex_cli.errors import RecordError, shortened
from molex_cli.launching.status import JobState, Status
from molex_cli.metrics.base import scored_class
from molex_cli.records import NOT_IN_VARIANT, read_record

HEAD = ("arm", "metric", "mean ± sd", "n", "collapsed")
MOST_ARMS = 6  # named in one line
COLUMNS = ("task", "model")  # what `molex compare` has columns of
LONGEST_REASON = 400  # characters


class Ending:
    """The jobs of a sweep and what became of them, by arm: those that differ in nothing but the seed."""

    def __init__(self, jobs: Sequence[Job], statuses: Sequence[Status], which: str = "last") -> None:
        self.jobs, self._statuses = list(jobs), list(statuses)
        self.runs = [_run(status) for status in statuses]
        by_arm: dict[tuple[str, ...], list[int]] = {}
        for number, job in enumerate(self.jobs):
            by_arm.setdefault(job.arm, []).append(number)
        self.by_arm: Mapping[tuple[str, ...], Sequence[int]] = by_arm
        self.cells = {arm: cell for arm, numbers in by_arm.items() if (cell := self._cell(numbers, which))}

    def means(self) -> list[list[str]]:
        """Return a row for each arm, of what `HEAD` names; none where no arm has two jobs."""
        if all(len(numbers) == 1 for numbers in self.by_arm.values()):
            return []
        rows = []
        for arm, numbers in self.by_arm.items():
            cell = self.cells.get(arm)
            finished = len(cell.runs) if cell else 0
            n = str(finished) if finished == len(numbers) else f"{finished} of {len(numbers)}"
            shown = (_metric(cell), _mean(cell), n, counted([cell])) if cell else ("", "–", n, "–")
            rows.append([" ".join(arm) or "all", *shown])
        return rows

    def reasons(self) -> Iterator[str]:
        """Yield why jobs failed, and why runs that finished say little: a line for each reason, with its jobs."""
        found: dict[tuple[str, str], list[int]] = {}
        for number, status in enumerate(self._statuses):
            for words in self._reasons(number, status):
                found.setdefault(words, []).append(number)
        for (kind, reason), numbers in found.items():
            yield f"{kind}  {self._named(numbers)}  {reason}"

    def compare(self, sweep: Path) -> str | None:
        """Return the command that compares the runs of the sweep, as it is typed; none without a finished run."""
        if not self.cells:
            return None
        keys = [key for key in self.swept() if key not in (*COLUMNS, "method")]
        runs = [run for cell in self.cells.values() for run in cell.runs]
        rows = ["method", *(key for key in keys if all(_has(run, key) for run in runs))]
        folder = f"./{sweep}" if str(sweep).startswith("-") else str(sweep)
        return shlex.join(["molex", "compare", folder, *(["--rows", ",".join(rows)] if len(rows) > 1 else [])])

    def swept(self) -> list[str]:
        """Return the settings in which arms differ."""
        keys = dict.fromkeys(key_of(value) for arm in self.by_arm for value in arm)
        return [key for key in keys if key.split(".")[0] not in NOT_IN_VARIANT]

    def _cell(self, numbers: Sequence[int], which: str) -> Cell | None:
        done = [run for i in numbers if (run := self.runs[i]) and self._statuses[i].state is JobState.finished]
        runs = [run for run in done if not unscored(run, which)]
        if not runs:
            return None
        return Cell(runs, runs[0].metric(), _positive(runs[0]), which)

    def _reasons(self, number: int, status: Status) -> list[tuple[str, str]]:
        run, cell = self.runs[number], self.cells.get(self.jobs[number].arm)
        if status.state is JobState.failed:
            kind = "diverged" if run and has_diverged(run) else "failed"
            reason = " ".join((status.error or "no reason is known").split())
            return [(kind, shortened(reason, LONGEST_REASON))]
        return why(run, cell.which, cell.metric) if run and cell and run in cell.runs else []

    def _named(self, numbers: Sequence[int]) -> str:
        """Return jobs in words, the seeds of an arm together."""
        seeds: dict[tuple[str, ...], list[str]] = {}
        for number in numbers:
            seeds.setdefault(self.jobs[number].arm, []).extend(_seed_of(self.jobs[number]))
        names = [" ".join([*arm, *([f"seed={','.join(of)}"] if of else [])]) or "the run" for arm, of in seeds.items()]
        more = f"; and {len(names) - MOST_ARMS} more arms" if len(names) > MOST_ARMS else ""
        return "; ".join(names[:MOST_ARMS]) + more


def _seed_of(job: Job) -> list[str]:
    return [value.partition("=")[2] for value in job.values if key_of(value) == "seed"]


def _run(status: Status) -> Run | None:
    """Return the run of a job that ended with a record."""
    if status.folder is None or not status.state.is_end:
        return None
    with suppress(RecordError):
        return Run(Path(status.folder), read_record(Path(status.folder)))
    return None


def _has(run: Run, key: str) -> bool:
    with suppress(RecordError):
        run.setting(key)
        return True
    return False


def _positive(run: Run) -> str | None:
    return run.record.evaluation.get("positive")


def _metric(cell: Cell) -> str:
    return scored_class(cell.metric.name, cell.positive) + (" %" if cell.metric.scale == 100 else "")


def _mean(cell: Cell) -> str:
    times = cell.metric.scale
    spread = "" if math.isnan(cell.deviation) else f" ± {cell.deviation * times:.2f}"
    return f"{cell.mean * times:.2f}{spread}"
