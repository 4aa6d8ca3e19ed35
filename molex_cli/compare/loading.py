"""The finished runs of some paths, and a line on each record that is left out; no torch."""

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molex_cli.errors import DivergedError, RecordError, TrainingError, shortened
from molex_cli.metrics.base import METRICS, ByExample, Metric, recorded
from molex_cli.records import Record, correctness, identity_of, index, read_record, read_rows
from molex_cli.records.made_from import differences, of_record
from molex_cli.records.parts import FAILED, Correctness
from molex_cli.records.renamed import is_later, value_before
from molex_cli.records.sweeps import is_sweep, runs_of
from molex_cli.runtime.paths import place_of
from molex_cli.statistics.pseudo_values import of_rows

WHICH = ("last", "best")
NOT_FINITE = "must be finite"  # what records of before say of a training that diverged


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run."""

    folder: Path
    record: Record
    split: str = ""
    """What its scores are on, if not on validation."""
    predictions: Path | None = None
    """Where those of another split are."""
    scored_by: Metric | None = None
    """The metric of its scores, where another program scored it."""

    def setting(self, key: str) -> Any:
        """Return a setting by its full key; of a group, such as `method`, the name of what was chosen."""
        value: Any = self.record.settings
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                if is_later(key):
                    return value_before(key)
                raise RecordError(f"{key} must be a setting of every run, got none in {self.folder}")
            value = value[part]
        return value["name"] if isinstance(value, dict) and "name" in value else value

    @property
    def started(self) -> datetime:
        """Return when its first attempt began; the earliest time there is where the record does not tell."""
        first = self.record.attempts[0]["started"] if self.record.attempts else self.record.started
        return datetime.fromisoformat(first) if first else datetime.min.replace(tzinfo=UTC)

    @property
    def scored_rows(self) -> tuple[str, ...]:
        """Return what identifies the rows of each split that is scored, as far as the record tells."""
        on = self.split or "validation"
        return tuple(str(about.get("fingerprint")) for split, about in self.record.data.items() if split.endswith(on))

    def metric(self, name: str | None = None) -> Metric:
        """Return a metric of the run, by default the one that comes first, as its record describes it."""
        return self.scored_by or recorded(
            name or self.record.scores["metric"], self.record.evaluation.get("metrics", {})
        )

    def correctness(self, which: str) -> tuple[str, NDArray[np.float64]] | None:
        """Return what identifies the examples of an evaluation and whether each was answered right, 1 or 0."""
        return _correctness(self, which)

    def values(self, which: str, metric: str) -> tuple[str, NDArray[np.float64]] | None:
        """Return what identifies the examples and a value of each, whose mean is the score; None if there are none."""
        if self.scored_by:
            return _values_of_outcomes(self)
        if self.metric(metric).by_example is ByExample.right_or_wrong:
            return self.correctness(which)
        return _values_of_rows(self, which, metric)

    def score(self, which: str, metric: str | None = None) -> float | None:
        """Return a score of the last or best evaluation, by default of the metric that comes first."""
        evaluated = self.record.evaluated(which)
        assert evaluated is not None
        return evaluated["scores"].get(metric or self.record.scores["metric"])


@cache
def _correctness(run: Run, which: str) -> tuple[str, NDArray[np.float64]] | None:
    if "stages" in run.record.scores:  # predictions are those of all stages, the score a mean over stages
        return None
    if run.scored_by:
        return _values_of_outcomes(run) if run.scored_by.by_example is ByExample.right_or_wrong else None
    kept = _kept(run, which) or correctness(_rows(run, which))
    if kept is None:
        return None
    bits = np.frombuffer(base64.b64decode(kept["right"]), dtype=np.uint8)
    return _examples(run, kept["ids"]), np.unpackbits(bits, count=kept["count"]).astype(np.float64)


@cache
def _values_of_rows(run: Run, which: str, metric: str) -> tuple[str, NDArray[np.float64]] | None:
    """Return what identifies the examples of the kept predictions and a value of each."""
    if "stages" in run.record.scores:
        return None
    rows, scored = _rows(run, which), run.record.evaluation
    labels = scored.get("labels") or run.record.settings["task"].get("labels")
    values = of_rows(rows, metric, labels, scored.get("positive"))
    return None if values is None else (_examples(run, identity_of(rows)), values)


@cache
def _values_of_outcomes(run: Run) -> tuple[str, NDArray[np.float64]] | None:
    """Return what identifies the examples of another program's scores, and the value that it gave each."""
    assert run.scored_by is not None
    if run.scored_by.by_example is ByExample.no:
        return None
    rows, name = _rows(run, ""), run.scored_by.name
    try:
        values = [float(row["values"][name]) for row in rows]
    except (KeyError, TypeError):
        raise RecordError(f"{run.predictions} must have a value of {name} for each example, got one without") from None
    return _examples(run, identity_of(rows)), np.array(values, dtype=np.float64)


def _kept(run: Run, which: str) -> Correctness | None:
    """Return which predictions were right as the record has it."""
    evaluated = run.record.evaluated(which)
    return evaluated.get("correctness") if evaluated else None


def _rows(run: Run, which: str) -> list[dict[str, Any]]:
    """Return the kept predictions; none where there are none."""
    path = run.predictions or run.folder / f"predictions-{which}.jsonl"
    return read_rows(path) if path.exists() else []


def _examples(run: Run, ids: str) -> str:
    """Return what identifies scored examples: rows that were edited are others, whatever their ids."""
    return " ".join((ids, *run.scored_rows))


@dataclass
class LoadedRuns:
    """The runs of some paths, and what was left out."""

    runs: list[Run] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """A line for each record that is not used, with the reason."""
    diverged: list[Run] = field(default_factory=list)
    """Runs whose loss or gradient was not finite; none that was run again to its end."""


def load(paths: Sequence[Path], which: str = "") -> LoadedRuns:
    """Return the finished runs of folders of runs, sweeps, run folders and records; of one run's tries the latest.

    A run whose predictions are damaged is left out, too, where those of the `which` evaluation are to be compared.
    """
    loaded = LoadedRuns()
    latest: dict[tuple[str, int], list[Run]] = {}
    for run in runs_in(paths):
        if isinstance(run, Run) and has_diverged(run) and not _group_missing(run.record):
            loaded.diverged.append(run)
        if why := run if isinstance(run, str) else _unusable(run) or unscored(run, which) or _unreadable(run, which):
            loaded.left_out.append(shortened(" ".join(why.splitlines())))  # a record may hold any text
            continue
        assert isinstance(run, Run)
        tries = latest.setdefault(_name(run), [])
        again = next((each for each in tries if not _differ(each, run)), None)
        if again is None:
            tries.append(run)
        else:
            older, newer = sorted((again, run), key=lambda each: each.record.finished or "")
            loaded.left_out.append(f"{older.folder} was run again as {newer.folder}")
            tries[tries.index(again)] = newer
    loaded.runs = [run for tries in latest.values() for run in tries]
    loaded.diverged = [run for run in loaded.diverged if all(_differ(each, run) for each in latest.get(_name(run), []))]
    return loaded


def has_diverged(run: Run) -> bool:
    """Return whether training failed by a loss or gradient that is not finite: a result of its settings."""
    error = run.record.error
    if run.record.status != "failed" or error is None:
        return False
    of_before = error["type"] == TrainingError.__name__ and NOT_FINITE in error["message"]
    return of_before or error["type"] == DivergedError.__name__


def _name(run: Run) -> tuple[str, int]:
    return run.record.variant, run.record.seed


def _unusable(run: Run) -> str:
    """Return why a run cannot be compared; nothing if it can."""
    record = run.record
    if record.status != "finished":
        message = " ".join(record.error["message"].splitlines()[:1]) if record.error else ""
        return f"{run.folder} is {record.status}{message and f': {message}'}"
    if missing := _missing(record):
        return f"{run.folder} is incomplete: its record has no {missing}"
    metric = record.scores["metric"]
    known = metric in METRICS or metric in record.evaluation.get("metrics", {})
    return "" if known else f"{run.folder} has a metric that molex does not know: {metric}"


def unscored(run: Run, which: str) -> str:
    """Return why a run has no score to compare: its metric failed, or says not what an undefined score counts as."""
    if not which or run.score(which) is not None:
        return ""
    metric = run.metric()
    if failed := next((why for why in run.record.degenerate if why.startswith(f"{metric.name}{FAILED}")), ""):
        return f"{run.folder} has no score: {failed}"
    if math.isfinite(metric.undefined):
        return ""
    return f"{run.folder} has an undefined {metric.name}, which does not say what that counts as (when_undefined)"


def _missing(record: Record) -> str:
    """Return what a comparison needs of a record and does not find."""
    if missing := _group_missing(record):
        return missing
    if "metric" not in record.scores:
        return "scores.metric"
    return next((f"scores.{which}" for which in WHICH if record.evaluated(which) is None), "")


def _group_missing(record: Record) -> str:
    groups = ("method", "task", "model", "hardware")
    return next((f"settings.{group}" for group in groups if group not in record.settings), "")


def _unreadable(run: Run, which: str) -> str:
    """Return why a run's predictions cannot be read, if a comparison reads them; nothing if they can."""
    packed = run.metric().by_example is ByExample.right_or_wrong and _kept(run, which)
    if not which or packed or "stages" in run.record.scores:
        return ""
    try:
        run.values(which, run.record.scores["metric"])
    except RecordError as error:
        return str(error)
    return ""


def _differ(one: Run, other: Run) -> bool:
    """Return whether two runs of one variant and seed were made from different things."""
    return bool(differences(of_record(one.record), of_record(other.record)))


def runs_in(paths: Iterable[Path]) -> Iterator[Run | str]:
    """Yield the run of each record under the paths once, or a line on a record or folder that cannot be used."""
    seen: set[tuple[int, int]] = set()
    for folder, run in _found(paths):
        if (place := place_of(folder)) not in seen:
            seen.add(place)
            yield run


def _found(paths: Iterable[Path]) -> Iterator[tuple[Path, Run | str]]:
    for path in paths:
        if not path.exists():
            raise RecordError(f"{path} does not exist; name a folder of runs, a run's folder or a record")
        if is_sweep(path):
            yield from _found(runs_of(path))
            continue
        if path.is_dir() and not (path / "record.json").exists():
            records, broken = index.read(path)
            yield from broken.items()
            yield from ((folder, Run(folder, record)) for folder, record in records.items())
            if not records and not broken:
                yield path, f"{path} holds no runs"
            continue
        folder = path if path.is_dir() else path.parent
        try:
            yield folder, Run(folder, read_record(path))
        except RecordError as error:
            yield folder, str(error)
