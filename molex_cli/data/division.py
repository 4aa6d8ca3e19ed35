"""One file of rows divided into training, validation and test rows, the same ones for every arm and seed; no torch."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from molex_cli.config.task import SHARED_SPLITS, Kind, Task
from molex_cli.errors import DataError

Row = Mapping[str, Any]
SHOWN_LABELS = 6


def parts(task: Task, rows: Mapping[int, Row], source: str) -> dict[str, list[int]]:
    """Return the numbers of the rows of each split, in their order.

    Each label has the same share of every split, and at least one row in it. Rows of the same texts stay together:
    what is trained on scores nothing.
    """
    shares = task.files.split or []
    stream, owed = random.Random(task.files.split_seed), [0.0] * len(shares)
    chosen: list[list[int]] = [[] for _ in shares]
    by_label = _by_label(task, rows)
    _require_enough(task, by_label, source)
    for groups in by_label.values():
        stream.shuffle(groups)
        owed = [before + share * sum(map(len, groups)) for before, share in zip(owed, shares, strict=True)]
        for number, group in enumerate(groups):
            part = number if number < len(shares) else owed.index(max(owed))
            chosen[part] += group
            owed[part] -= len(group)
    chosen[0] += [number for number, row in rows.items() if is_missing(row.get(task.label))]  # refused by their reader
    return {split: sorted(numbers) for split, numbers in zip(SHARED_SPLITS, chosen, strict=False)}


def described(task: Task, found: Mapping[str, Sequence[int]], source: str) -> str:
    """Return, for people, how many rows each split has of a file, and what decides which."""
    counts = ", ".join(f"{split} {len(numbers):,}" for split, numbers in found.items())
    alike = f", each label with the same share of all (stratified by {task.label})" if has_classes(task) else ""
    return f"rows of {source} are split into {counts}{alike}; task.files.split_seed={task.files.split_seed}"


def has_classes(task: Task) -> bool:
    """Return whether each row has one of a few labels."""
    return task.kind is Kind.classification or (task.kind is Kind.multiple_choice and not task.choices)


def is_missing(value: Any) -> bool:
    """Return whether a cell has no value: nothing, NaN or blanks."""
    return value is None or value != value or not str(value).strip()  # NaN is not itself


def _by_label(task: Task, rows: Mapping[int, Row]) -> dict[str, list[list[int]]]:
    """Return groups of rows of the same texts by their label, the rarest first; without classes all are of one."""
    columns = [*task.columns, *([task.choices] if task.choices else [])]
    together: dict[str, list[int]] = {}
    for number, row in rows.items():
        if not is_missing(row.get(task.label)):
            together.setdefault(repr([row.get(column) for column in columns]), []).append(number)
    by_label: dict[str, list[list[int]]] = {}
    for group in together.values():
        label = str(rows[group[0]][task.label]) if has_classes(task) else ""
        by_label.setdefault(label, []).append(group)
    return dict(sorted(by_label.items(), key=lambda each: (len(each[1]), each[0])))


def _require_enough(task: Task, by_label: Mapping[str, Sequence[Sequence[int]]], source: str) -> None:
    """Raise DataError where a label has not a row for each split; rows of the same texts count once."""
    parts = len(task.files.split or [])
    rare = [
        f"{len(groups)} of {label}" if label else str(len(groups))
        for label, groups in by_label.items()
        if len(groups) < parts
    ]
    if rare and has_classes(task):
        shown = ", ".join(rare[:SHOWN_LABELS]) + (f", ... ({len(rare)} labels)" if len(rare) > SHOWN_LABELS else "")
        raise DataError(
            f"task.files.split must give each of {parts} splits a row of every label, got in {source} too few rows of "
            f"different texts: {shown}; add rows, leave these out, or set task.label to another column"
        )
    if rare or not by_label:
        raise DataError(
            f"task.files.split must give each of {parts} splits a row, got {', '.join(rare) or 'none'} of different "
            f"texts in {source}; add rows"
        )
