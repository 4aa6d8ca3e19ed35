"""The course of an arm's training from the events of its seeds, and what a curve of it does not show."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from molex_cli.compare.loading import Run
from molex_cli.compare.table import Cell
from molex_cli.errors import RecordError
from molex_cli.records import lines_of
from molex_cli.records.event_lines import EvaluatedLine, EventLine, StepLine
from molex_cli.records.parts import SELECTION
from molex_cli.records.reading import Misfit, parsed

BINS = 40  # of a run's losses: single ones are too noisy to be told apart

E = TypeVar("E")
Course = dict[int, list[float]]
"""The values of several seeds at each step, in order."""


def scores(name: str, cell: Cell, gaps: list[str]) -> Course:
    """Return the scores of an arm's seeds at each evaluation, as they are shown; of several tasks at a step, the mean.

    Of a run that set rows apart to choose the best, the scores on these: validation is scored for a few alone. What is
    left out is added to `gaps`, with the arm's name.
    """
    return _course(name, cell, gaps, partial(_scores, metric=cell.metric.name), "evaluation", cell.metric.scale)


def losses(name: str, cell: Cell, gaps: list[str]) -> Course:
    """Return the mean losses of an arm's seeds in a number of parts of the training, each by its last step."""
    return _course(name, cell, gaps, _losses, "loss")


def has_selection(run: Run) -> bool:
    """Return whether a run set rows apart to choose the best."""
    return bool(run.setting("train.selection"))


def _course(
    name: str,
    cell: Cell,
    gaps: list[str],
    read: Callable[[Run], dict[int, list[float | None]]],
    what: str,
    scale: float = 1,
) -> Course:
    found: Course = {}
    for run in cell.runs:
        seed = f"{name}, seed {run.record.seed}"
        try:
            values = read(run)
        except RecordError:
            gaps.append(f"damaged events, so not drawn: {seed}")
            continue
        if not values:
            gaps.append(f"no {what} in its events, so not drawn: {seed}")
        if undefined := [str(step) for step, each in values.items() if None in each]:
            gaps.append(f"undefined, so not drawn: {seed}, step {', '.join(undefined)}")
        for step, each in values.items():
            if known := [value for value in each if value is not None]:
                found.setdefault(step, []).append(sum(known) / len(known) * scale)
    return dict(sorted(found.items()))


def _scores(run: Run, metric: str) -> dict[int, list[float | None]]:
    """Return the scores of each step, None where one is undefined."""
    selects = has_selection(run)
    found: dict[int, list[float | None]] = {}
    for event in _events(run, "evaluated", EvaluatedLine):
        if metric in event["scores"] and (event.get("split") == SELECTION) is selects:
            value = event["scores"][metric]
            found.setdefault(event["step"], []).append(None if value is None else float(value))
    return found


def _losses(run: Run) -> dict[int, list[float | None]]:
    steps = list(_events(run, "step", StepLine))
    size = max(1, math.ceil(len(steps) / BINS))
    parts = [steps[i : i + size] for i in range(0, len(steps), size)]
    return {part[-1]["step"]: [sum(step["loss"] for step in part) / len(part)] for part in parts}


def _events(run: Run, kind: str, line_type: type[E]) -> Iterator[E]:
    """Yield the events of a kind; raise RecordError for a line that is damaged, unless the last one was cut off."""
    path = run.folder / "events.jsonl"
    lines = list(lines_of(path)) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if f'"{kind}"'.encode() not in line and line.rstrip().endswith(b"}"):
            continue  # of another kind; one that was cut off may be of any
        try:
            yield parsed(line, line_type)
        except Misfit as error:
            if number < len(lines) and not _is_other(line, kind):
                raise RecordError(f"{path} must hold events, got a broken line {number}: {error}") from None


def _is_other(line: bytes, kind: str) -> bool:
    try:
        return parsed(line, EventLine)["event"] != kind
    except Misfit:
        return False
