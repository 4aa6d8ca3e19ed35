"""Training rows set apart to choose the best evaluation, so that the reported split chooses nothing; no torch."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from molex_cli.config.task import Kind, Task
from molex_cli.data.division import has_classes
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

    Each class has the same share of both, and keeps some to train on. Rows of the same texts stay together: what is
    trained on selects nothing. Where texts are written, each counts once, whatever the number of its references.
    """
    groups: dict[Any, list[Named]] = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    is_written = task.kind is Kind.generation
    total = len(groups) if is_written else len(rows)
    wanted = selection.count(total)
    drawn = _drawn(list(groups.values()), wanted / total, selection.seed, task)
    chosen = {row[0] for group in drawn for row in group}
    train, selected = ([row for row in rows if (row[0] in chosen) is side] for side in (False, True))
    selected = with_all_references(selected) if is_written else selected
    if not train or not selected or len(selected) < wanted:
        raise DataError(
            f"train.selection must leave rows to train on and to select, got {len(train)} and {len(selected)} of "
            f"{len(rows)} for {wanted} in {source}; each label keeps one to train on"
        )
    return train, selected


def _drawn(groups: list[list[Named]], share: float, seed: int, task: Task) -> list[list[Named]]:
    """Return groups with this share of each class's rows, or texts; a task without classes is one class.

    Small classes come first: what rounding and the last group of a class leave owed goes to the next.
    """
    by_class: dict[Any, list[list[Named]]] = {}
    for group in groups:
        by_class.setdefault(group[0][3] if has_classes(task) else None, []).append(group)
    stream, drawn, owed = random.Random(seed), list[list[Named]](), 0.0
    for _, of_class in sorted(by_class.items(), key=lambda each: (len(each[1]), str(each[0]))):
        sizes = [1 if task.kind is Kind.generation else len(group) for group in of_class]
        owed += share * sum(sizes)
        for i in stream.sample(range(len(of_class)), len(of_class) - 1):  # one is never taken from training
            if round(owed) <= 0:
                break
            drawn.append(of_class[i])
            owed -= sizes[i]
    return drawn


def with_all_references(rows: Sequence[Named]) -> list[Named]:
    """Return one row for each text, with all that may be written for it; its id is that of the first."""
    merged: dict[Any, tuple[str, Any]] = {}
    for key, texts, _, written in rows:
        first, references = merged.get(texts, (key, ()))
        merged[texts] = first, references + written
    return [(key, texts, (), references) for texts, (key, references) in merged.items()]
