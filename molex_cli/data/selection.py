"""Training rows set apart to choose the best evaluation, so that the reported split chooses nothing; no torch."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from molex_cli.config.task import Kind, Task
from molex_cli.errors import DataError

Named = tuple[str, tuple[str, ...], Any, Any]
"""Id, texts, choices and target of a row."""


@dataclass(frozen=True)
class Selection:
    """How many rows are set apart, and which."""

    size: float = 0.0
    """A share below 1, or a number."""
    seed: int = 0

    def count(self, rows: int) -> int:
        """Return the number of rows, of so many."""
        return round(self.size * rows) if self.size < 1 else int(self.size)


NONE = Selection()


def divided(rows: Sequence[Named], selection: Selection, source: str, task: Task) -> tuple[list[Named], list[Named]]:
    """Return the rows to train on and those that select, both in their order.

    Each class has the same share of both. Rows of the same texts stay together: what is trained on selects nothing.
    """
    groups: dict[Any, list[Named]] = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    wanted = selection.count(len(rows))
    chosen = {
        row[0] for group in _drawn(list(groups.values()), wanted / len(rows), selection.seed, task) for row in group
    }
    train, selected = ([row for row in rows if (row[0] in chosen) is side] for side in (False, True))
    if not train or not selected:
        raise DataError(
            f"train.selection must leave rows to train on and to select, got {len(train)} and {len(selected)} of "
            f"{len(rows)} in {source}"
        )
    return train, with_all_references(selected) if task.kind is Kind.generation else selected


def _drawn(groups: list[list[Named]], share: float, seed: int, task: Task) -> list[list[Named]]:
    """Return this share of each class's groups; a task without classes is one class."""
    is_classified = task.kind is Kind.classification
    by_class: dict[Any, list[list[Named]]] = {}
    for group in groups:
        by_class.setdefault(group[0][3] if is_classified else None, []).append(group)
    stream, drawn, owed = random.Random(seed), list[list[Named]](), 0.0
    for _, of_class in sorted(by_class.items(), key=lambda each: str(each[0])):
        owed += share * len(of_class)  # what rounding leaves of one class goes to the next
        count = round(owed)
        owed -= count
        drawn += stream.sample(of_class, min(count, len(of_class)))
    return drawn


def with_all_references(rows: Sequence[Named]) -> list[Named]:
    """Return one row for each text, with all that may be written for it; its id is that of the first."""
    merged: dict[Any, tuple[str, Any]] = {}
    for key, texts, _, written in rows:
        first, references = merged.get(texts, (key, ()))
        merged[texts] = first, references + written
    return [(key, texts, (), references) for texts, (key, references) in merged.items()]
