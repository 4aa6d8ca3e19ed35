"""A task's rows, from the hub, the official files, your own files, or a built-in generator; no torch."""

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from molex_cli.config.schema import Experiment
from molex_cli.config.task import Kind, Task
from molex_cli.data.division import is_missing
from molex_cli.data.selection import NONE, Named, Selection, divided, with_all_references
from molex_cli.data.tables import SPLITS, Table, table
from molex_cli.errors import ConfigError, DataError, all_of
from molex_cli.records.parts import SELECTION

SHOWN_ROWS = 12


@dataclass(frozen=True)
class Split:
    """The rows of one split, in the order of their source."""

    ids: list[str]
    """`<split>:<row index>`, the same from the hub and from the official files."""
    texts: list[tuple[str, ...]]
    """The task's columns."""
    labels: list[Any]
    """The class index, the number, the index of the right choice, or the texts that may be written."""
    choices: list[tuple[str, ...]] = field(default_factory=list)
    """For kind=multiple_choice: the choices of each row."""
    source: str = ""
    num_rows: int = 0
    """Rows of the source, before train.max_rows."""
    fingerprint: str = field(default="")
    """sha256 over ids, texts and labels."""
    names: list[str] = field(default_factory=list)
    """Of the labels, by class index."""
    division: str = ""
    """Which rows of the source these are, where one file is divided."""
    commit: str | None = None
    """That of the hub which the rows are of."""

    def only(self, rows: Sequence[int]) -> "Split":
        """Return some of the rows."""
        choices = [self.choices[row] for row in rows] if self.choices else []
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            choices=choices,
        )

    def about(self) -> dict[str, Any]:
        """Return what a record keeps of the rows."""
        rows_of = Counter(self.labels) if self.names else Counter()
        return {
            "source": self.source,
            "rows": self.num_rows,
            "rows_used": len(self.ids),
            "fingerprint": self.fingerprint,
            **({"commit": self.commit} if self.commit else {}),
            **({"division": self.division} if self.division else {}),
            **({"labels": {name: rows_of[i] for i, name in enumerate(self.names)}} if self.names else {}),
        }


Rows = dict[str, tuple[dict[str, Split], list[str]]]
"""The splits and labels of each stage by its name; of a run without stages by an empty one."""


def read_all(experiment: Experiment) -> Rows:
    """Return all rows of an experiment; raise with what is wrong in any of its splits."""
    tasks, train = experiment.stages or {"": experiment.task}, experiment.train
    selection = Selection(train.selection, train.selection_seed)
    return all_of(
        {name: partial(read, task, experiment.data_dir, train.max_rows, selection) for name, task in tasks.items()}
    )


def about_all(rows: Rows) -> dict[str, Any]:
    """Return what a record keeps of each split, by its name."""
    return {
        f"{stage}/{name}" if stage else name: split.about()
        for stage, (splits, _) in rows.items()
        for name, split in splits.items()
    }


def read(
    task: Task, data_dir: str | None, max_rows: int | None = None, selection: Selection = NONE
) -> tuple[dict[str, Split], list[str]]:
    """Return the task's splits and its labels; `max_rows` keeps a fixed sample of each split.

    With a selection, training rows are divided in two: those that are trained on, and those that choose the best.
    """
    tables = all_of({split: partial(_labelled, task, split, data_dir) for split in SPLITS})
    labels = _labels(task, tables["train"]) if _are_in_rows(task) else list(task.labels or ())
    _require_fitting(task, labels)
    attempts = {split: partial(_named, task, split, table, labels, max_rows) for split, table in tables.items()}
    named = all_of(attempts)
    if selection.size:
        train, selected = divided(named["train"], selection, tables["train"].source, task)
        named = {"train": train, SELECTION: selected, "validation": named["validation"]}
    sources = tables | {SELECTION: tables["train"]}
    return {split: _as_split(rows, sources[split], labels) for split, rows in named.items()}, labels


def read_labels(task: Task, data_dir: str | None) -> list[str]:
    """Return the task's labels in the order of their class index, from its training rows where they are not set."""
    labels = _labels(task, _labelled(task, "train", data_dir)) if _are_in_rows(task) else list(task.labels or ())
    _require_fitting(task, labels)
    return labels


def read_split(
    task: Task, split: str, data_dir: str | None, labels: Sequence[str], max_rows: int | None = None
) -> Split:
    """Return one split, with the labels that a model was trained on."""
    _require_fitting(task, labels)
    table = _labelled(task, split, data_dir)
    return _as_split(_named(task, split, table, labels, max_rows, training=False), table, labels)


def _are_in_rows(task: Task) -> bool:
    return task.kind is Kind.classification and task.labels is None


def _require_fitting(task: Task, labels: Sequence[str]) -> None:
    if found := list(task.label_problems(labels)):
        raise ConfigError([f"task{problem}" for problem in found])


def _labelled(task: Task, split: str, data_dir: str | None) -> Table:
    """Return the table of a split, in which no row may lack its label."""
    found = table(task, split, data_dir)
    numbered = zip(found.numbers, found.rows, strict=True)
    if missing := [number + 1 for number, row in numbered if is_missing(row.get(task.label))]:
        raise DataError(
            f"{found.source} must have a value in {task.label} in every row, got none in {_rows_named(missing)}; "
            "fill it in, or take what has none out"
        )
    return found


def _rows_named(numbers: Sequence[int]) -> str:
    """Return rows by their numbers, which begin at 1; of many only the first."""
    if len(numbers) == 1:
        return f"row {numbers[0]}"
    shown = [str(number) for number in numbers[:SHOWN_ROWS]]
    if len(numbers) > SHOWN_ROWS:
        return f"{len(numbers):,} rows: {', '.join(shown)}, ..."
    return f"rows {', '.join(shown[:-1])} and {shown[-1]}"


def _named(
    task: Task, split: str, table: Table, labels: Sequence[str], max_rows: int | None, *, training: bool = True
) -> list[Named]:
    """Return id, texts, choices and target of each row; of many a fixed sample."""
    numbered = zip(table.numbers, table.rows, strict=True)
    named = [(f"{split}:{number}", *_row(task, row, labels, table.source, number)) for number, row in numbered]
    if task.kind is Kind.generation and not (split == "train" and training):
        named = with_all_references(named)
    if max_rows is not None and max_rows < len(named):
        named = [named[i] for i in sorted(random.Random(0).sample(range(len(named)), max_rows))]
    return named


def _as_split(named: Sequence[Named], table: Table, labels: Sequence[str]) -> Split:
    ids, texts, choices, targets = map(list, zip(*named, strict=True))
    content = json.dumps([ids, texts, targets, *([choices] if any(choices) else [])], ensure_ascii=False)
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    known = table.source, len(table.rows), fingerprint, list(labels), table.division, table.commit
    return Split(ids, texts, targets, choices if any(choices) else [], *known)


def _row(task: Task, row: Mapping[str, Any], labels: Sequence[str], source: str, number: int) -> tuple[Any, Any, Any]:
    """Return the texts, choices and target of one row."""
    where = f"{source}, row {number + 1}"
    texts, names, choices = inputs(task, row, labels, where)
    label = _text(row, task.label, where)
    match task.kind:
        case Kind.regression:
            return texts, (), _number(label, task.label, where)
        case Kind.generation:
            return texts, (), (label,)
        case _:
            return texts, choices, _class(label, {name: i for i, name in enumerate(names)}, where)


def inputs(
    task: Task, row: Mapping[str, Any], labels: Sequence[str], where: str
) -> tuple[tuple[str, ...], list[str], tuple[str, ...]]:
    """Return the model's input from a row: its texts, and names and texts of its choices."""
    texts = tuple(_text(row, column, where) for column in task.columns)
    if task.kind is not Kind.multiple_choice:
        return texts, list(labels), ()
    if not task.choices:
        return texts, list(labels), tuple(map(label_words, labels))
    return texts, *_choices(row.get(task.choices), task.choices, where)


def label_words(label: str) -> str:
    """Return a label as words: not_equivalent is not equivalent."""
    return label.replace("_", " ")


def _choices(value: Any, column: str, where: str) -> tuple[list[str], tuple[str, ...]]:
    """Return names and texts of choices, written as texts, as {label, text} each, or as {labels, texts}."""
    try:
        if isinstance(value, str):
            raise TypeError("a text is no list of choices")
        if isinstance(value, Mapping):
            value = [{"label": label, "text": text} for label, text in zip(value["label"], value["text"], strict=True)]
        if all(isinstance(each, str) for each in value):
            names, texts = [chr(ord("A") + i) for i in range(len(value))], list(value)
        else:
            names, texts = [str(each["label"]) for each in value], [str(each["text"]) for each in value]
    except (TypeError, KeyError, ValueError):
        raise DataError(
            f"{where} must have choices in {column}, got {str(value)[:60]!r}; write a list of texts"
        ) from None
    if not 2 <= len(texts) <= 26 or len(set(names)) < len(names):
        raise DataError(f"{where} must have 2 to 26 choices of different names in {column}, got {', '.join(names)}")
    for each in (*names, *texts):
        _whole(each, column, where)
    return names, tuple(texts)


def _labels(task: Task, table: Table) -> list[str]:
    """Return the different labels of the rows, sorted."""
    rows_of: dict[str, list[int]] = {}
    for number, row in zip(table.numbers, table.rows, strict=True):
        rows_of.setdefault(_text(row, task.label, f"{table.source}, row {number + 1}"), []).append(number + 1)
    for label, numbers in rows_of.items():
        if label != label.strip():
            raise DataError(
                f"{table.source} must have labels without blanks around them, got {label!r} in {_rows_named(numbers)}; "
                "take the blanks away, or set task.labels"
            )
    labels = sorted(rows_of)
    if len(labels) < 2:
        raise DataError(f"{table.source} must have two or more labels in {task.label}, got {labels}")
    if len(labels) > max(50, len(table.rows) // 2):
        way_out = "; for numbers set task.kind=regression" if all(map(_is_number, labels)) else ""
        raise DataError(
            f"{table.source} must have few labels in {task.label}, got {len(labels)} different values{way_out}"
        )
    return labels


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(text: str, column: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where} must have a number in {column}, got {text!r}")
    return float(f"{number:.6g}")  # the hub holds 32-bit numbers


def _class(text: str, index: Mapping[str, int], where: str) -> int:
    if text in index:
        return index[text]
    if text.isdecimal() and int(text) < len(index) and not any(label.isdecimal() for label in index):
        return int(text)
    known = ", ".join(index) if index else "task.labels, which are not set"
    raise DataError(f"{where} must have a label of {known}, got {text!r}; set task.labels to all there are")


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if value is None or value != value:
        raise DataError(f"{where} must have a value in {column}, got {'nothing' if value is None else 'NaN'}")
    if isinstance(value, Mapping | list | bytes):
        raise DataError(f"{where} must have a text in {column}, got {str(value)[:60]!r}")
    return _whole(str(value), column, where)


def _whole(text: str, column: str, where: str) -> str:
    """Return a text; raise DataError for one that UTF-8 cannot hold, as JSON's \\ud800 makes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise DataError(f"{where} must have a text in {column}, got half of a character, {half}; mend it") from None
    return text
