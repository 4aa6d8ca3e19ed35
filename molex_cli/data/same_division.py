"""Whether a file that a run divided is divided alike where the run is scored, or it meets rows that it trained on."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from molex_cli.config.schema import Experiment
from molex_cli.config.task import Task
from molex_cli.data import reading
from molex_cli.data.selection import Selection
from molex_cli.errors import DataError, RecordError
from molex_cli.records.run_folder import record_beside
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say_once


def require_same_division(experiment: Experiment, asked: Task, adapter: Path) -> None:
    """Raise DataError where a run, saved in `adapter`, trained on another division of the file that is asked for."""
    tasks = experiment.stages or {"": experiment.task}
    divided = {stage: own for stage, own in tasks.items() if own.files.split and _file(own) == _file(asked)}
    if not asked.files.split or not divided:
        return
    stage = next((stage for stage, own in divided.items() if _deciding(own) == _deciding(asked)), None)
    if stage is None:
        raise DataError(
            f"task must divide {asked.files.train} as the run did, got other settings than its own: rows that it was "
            "trained on would be scored; leave task out"
        )
    _require_same_rows(experiment, stage, divided[stage], adapter)


def _require_same_rows(experiment: Experiment, stage: str, own: Task, adapter: Path) -> None:
    """Raise DataError where the file's rows are others than those that the run's record tells of."""
    record = None
    with contextlib.suppress(RecordError):
        record = record_beside(adapter)
    before: Mapping[str, Any] = record.data if record else {}
    train = experiment.train
    selection = Selection(train.selection, train.selection_seed)
    splits, _ = reading.read(own, experiment.data_dir, train.max_rows, selection)
    now = reading.about_all({stage: (splits, [])})
    known = [before[split]["fingerprint"] == about["fingerprint"] for split, about in now.items() if split in before]
    if not all(known):
        raise DataError(
            f"{own.files.train} must have the rows that were divided when the run was trained, got others: rows that "
            "it was trained on would be scored; put the file back as it was, or new rows into another one"
        )
    if not known:
        say_once(f"{adapter} has no record of a run beside it: whether {own.files.train} is the same is not known")


def _file(task: Task) -> Path | None:
    return expanded(task.files.train).resolve() if task.files.train else None


def _deciding(task: Task) -> tuple[Any, ...]:
    """Return what decides the rows of each split."""
    return replace(task.files, train=None), task.where, task.columns, task.choices, task.label, task.kind
