"""A task's rows, from the hub, the official files, your own files, or a built-in generator; no torch."""

import csv
import hashlib
import io
import json
import math
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from molex_cli import hub
from molex_cli.errors import DataError, nearest
from molex_cli.tasks import Files, Kind, Quoting, Task

SPLITS = ("train", "validation")
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


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
    """For kind=choose: the choices of each row."""
    source: str = ""
    num_rows: int = 0
    """Rows of the source, before train.max_rows."""
    fingerprint: str = field(default="")
    """sha256 over ids, texts and labels."""


@dataclass(frozen=True)
class _Table:
    source: str
    rows: Sequence[Mapping[str, Any]]


def read(task: Task, data_dir: str | None, max_rows: int | None = None) -> tuple[dict[str, Split], list[str]]:
    """Return the task's splits and its labels; `max_rows` keeps a fixed sample of each split."""
    tables = {split: _table(task, split, data_dir) for split in SPLITS}
    classes = task.kind is Kind.classify or (task.kind is Kind.choose and not task.choices)
    labels = (task.labels or _labels(task, tables["train"])) if classes else []
    return {split: _split(task, split, table, labels, max_rows) for split, table in tables.items()}, list(labels)


def read_split(
    task: Task, split: str, data_dir: str | None, labels: Sequence[str], max_rows: int | None = None
) -> Split:
    """Return one split, with the labels that a model was trained on."""
    return _split(task, split, _table(task, split, data_dir), labels, max_rows)


def _split(task: Task, split: str, table: _Table, labels: Sequence[str], max_rows: int | None) -> Split:
    rows = [_row(task, row, labels, table.source, number) for number, row in enumerate(table.rows)]
    named = [(f"{split}:{number}", *row) for number, row in enumerate(rows)]
    if task.kind is Kind.write and split != "train":
        named = _with_all_references(named)
    if max_rows is not None and max_rows < len(named):
        named = [named[i] for i in sorted(random.Random(0).sample(range(len(named)), max_rows))]
    ids, texts, choices, targets = map(list, zip(*named, strict=True))
    content = json.dumps([ids, texts, targets, *([choices] if any(choices) else [])], ensure_ascii=False)
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    return Split(ids, texts, targets, choices if any(choices) else [], table.source, len(rows), fingerprint)


def _row(task: Task, row: Mapping[str, Any], labels: Sequence[str], source: str, number: int) -> tuple[Any, Any, Any]:
    """Return the texts, choices and target of one row."""
    where = f"{source}, row {number + 1}"
    texts = tuple(_text(row, column, source, number) for column in task.columns)
    label = _text(row, task.label, source, number)
    match task.kind:
        case Kind.regress:
            return texts, (), _number(label, task.label, where)
        case Kind.write:
            return texts, (), (label,)
        case Kind.choose if task.choices:
            names, choices = _choices(row.get(task.choices), task.choices, where)
            return texts, choices, _class(label, {name: i for i, name in enumerate(names)}, where)
        case _:
            target = _class(label, {name: i for i, name in enumerate(labels)}, where)
            return texts, tuple(map(spoken, labels)) if task.kind is Kind.choose else (), target


def spoken(label: str) -> str:
    """Return a label as words: not_equivalent is not equivalent."""
    return label.replace("_", " ")


def _with_all_references(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return one row for each text, with all that may be written for it; its id is that of the first."""
    merged: dict[Any, tuple[Any, ...]] = {}
    for key, texts, _, written in rows:
        first, references = merged.get(texts, (key, ()))
        merged[texts] = first, references + written
    return [(key, texts, (), references) for texts, (key, references) in merged.items()]


def _choices(value: Any, column: str, where: str) -> tuple[list[str], tuple[str, ...]]:
    """Return names and texts of choices, written as texts, as {label, text} each, or as {labels, texts}."""
    if isinstance(value, Mapping) and {"label", "text"} <= set(value):
        value = [{"label": label, "text": text} for label, text in zip(value["label"], value["text"], strict=True)]
    try:
        if all(isinstance(each, str) for each in value):
            names, texts = [chr(ord("A") + i) for i in range(len(value))], list(value)
        else:
            names, texts = [str(each["label"]) for each in value], [str(each["text"]) for each in value]
    except (TypeError, KeyError):
        raise DataError(f"{where} must have choices in {column}, got {str(value)[:60]!r}") from None
    if not 2 <= len(texts) <= 26 or len(set(names)) < len(names):
        raise DataError(f"{where} must have 2 to 26 choices of different names in {column}, got {', '.join(names)}")
    return names, tuple(texts)


def _table(task: Task, split: str, data_dir: str | None) -> _Table:
    table = _source(task, split, data_dir)
    if not table.rows:
        raise DataError(f"the {split} split must have rows, got none in {table.source}")
    return table


def _source(task: Task, split: str, data_dir: str | None) -> _Table:
    if task.builtin:
        return _builtin(task, split)
    if task.files.train:
        if not getattr(task.files, split):
            raise DataError(f"task.files.{split} must name a file, got null")
        return _file(task, task.files, Path(getattr(task.files, split) or ""), f"task.files.{split}")
    official = getattr(task.official, split)
    if not (official if data_dir is not None and task.official.train else getattr(task.hub, split)):
        raise DataError(f"task={task.name} must have a {split} split, got none; choose train or validation")
    if data_dir is not None and official:
        if not Path(data_dir).is_dir():
            reason = "is no folder" if Path(data_dir).exists() else "does not exist"
            raise DataError(f"data_dir must be a folder with {official}, got {data_dir}, which {reason}")
        return _file(task, task.official, Path(data_dir) / official, "data_dir")
    return _hub(task, split, official)


def _builtin(task: Task, split: str) -> _Table:
    from molex_cli.data import grammar

    if task.builtin != "nli":
        raise DataError(f"task.builtin must be a built-in task, got {task.builtin}; choose nli")
    return _Table("builtin nli", grammar.rows(split))


def _hub(task: Task, split: str, official: str | None) -> _Table:
    way_out = (
        f"set data_dir=PATH (or MOLEX_DATA) to a folder that holds {official}"
        if official
        else "set task.files.train and task.files.validation"
    )
    online = hub.go_offline_if_unreachable()
    from datasets import load_dataset

    where = f"{task.hub.path}/{task.hub.subset}" if task.hub.subset else f"{task.hub.path}"
    try:
        rows = load_dataset(task.hub.path, task.hub.subset, split=getattr(task.hub, split))
    except (OSError, ValueError, RuntimeError) as error:
        if online:
            raise DataError(f"task.hub must be a data set on the hub, got {where}: {_first_line(error)}") from error
        reason = "no connection to the hub and no cached copy"
        raise DataError(f"task={task.name} must get {where} from the hub, got {reason}; {way_out}") from error
    _require_columns(task, rows.column_names, where, "task.columns")
    if task.hub.empty:
        rows = rows.filter(lambda row: row[task.hub.empty] is None).remove_columns(task.hub.empty)
    return _Table(where, rows.to_list())


def _file(task: Task, files: Files, path: Path, key: str) -> _Table:
    if not path.is_file():
        raise DataError(f"{key} must hold {path.name}, got no such file: {path}")
    if path.suffix not in ENDINGS:
        raise DataError(f"{key} must end in {', '.join(ENDINGS)}, got {path}")
    try:
        columns, rows = _parsed(path, files)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(f"{path} must be UTF-8, got byte 0x{byte:02x} in line {line}; save it as UTF-8") from None
    except (csv.Error, json.JSONDecodeError, OSError, ValueError) as error:
        raise DataError(f"{path} must be a {path.suffix[1:]} file, got: {_first_line(error)}") from error
    if files.rename:
        rows = [_renamed(row, files.rename) for row in rows]
        columns = sorted({column for row in rows for column in row})
    if rows or columns:
        _require_columns(task, columns, str(path), "task.columns and task.label")
    return _Table(str(path), rows)


def _renamed(row: Mapping[str, Any], rename: Mapping[str, str]) -> dict[str, Any]:
    """Return the row under the task's names; a column whose old name is taken by another is gone."""
    found = {}
    for ours, theirs in rename.items():
        value: Any = row
        for part in [theirs] if theirs in row else theirs.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            found[ours] = value
    return {column: value for column, value in row.items() if column not in rename.values()} | found


def _parsed(path: Path, files: Files) -> tuple[list[str], list[dict[str, Any]]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        return table.column_names, table.to_pylist()
    text = path.read_bytes().decode("utf-8-sig")
    if path.suffix == ".jsonl":
        rows = [_object(line, number) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        return sorted({key for row in rows for key in row}), rows
    return _delimited(text, "\t" if path.suffix == ".tsv" else ",", files)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from None
    if not isinstance(row, dict):
        raise ValueError(f"line {number}, which is no object: {line.strip()[:40]}")
    return row


def _delimited(text: str, delimiter: str, files: Files) -> tuple[list[str], list[dict[str, Any]]]:
    lines = _cells(text, delimiter, files.quoting)
    header = files.header or next(lines, [])
    rows = []
    if len(set(header)) < len(header):
        raise ValueError(f"two columns of the same name in {', '.join(header)}")
    for number, cells in enumerate(lines, start=1 if files.header else 2):
        if len(cells) != len(header):
            raise ValueError(f"{len(cells)} cells in row {number} where the header has {len(header)}")
        rows.append(dict(zip(header, cells, strict=True)))
    return list(header), rows


def _cells(text: str, delimiter: str, quoting: Quoting) -> Iterator[list[str]]:
    """Return the rows of cells, blank lines left out.

    Benchmarks write tab-separated text without quoting, and stray quotation marks then merge rows in a
    reader that unquotes; spreadsheets quote. `auto` unquotes only where the whole file is well quoted.
    """
    csv.field_size_limit(2**31 - 1)

    def reader(mode: Literal[0, 3]) -> Iterable[list[str]]:
        parsed = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=mode, strict=True)
        return (cells for cells in parsed if cells)

    if quoting is Quoting.none:
        return iter(reader(csv.QUOTE_NONE))
    try:
        quoted = list(reader(csv.QUOTE_MINIMAL))
    except csv.Error:
        if quoting is Quoting.csv:
            raise
        return iter(reader(csv.QUOTE_NONE))
    if quoting is Quoting.auto and '"' in text:
        # Two stray quotes can look like one quoted field with a line break; then the plain rows are all of one width.
        plain = list(reader(csv.QUOTE_NONE))
        if len(plain) > len(quoted) and len({len(cells) for cells in plain}) == 1:
            return iter(plain)
    return iter(quoted)


def _require_columns(task: Task, found: Sequence[str], where: str, key: str) -> None:
    wanted = [*task.columns, *([task.choices] if task.choices else []), task.label]
    missing = [column for column in wanted if column not in found]
    if missing:
        hint = nearest(missing[0], found)
        raise DataError(
            f"{where} must have the columns {', '.join(wanted)}, got no {' and no '.join(missing)}; {hint}; "
            f"set {key} to what it has"
        )


def _labels(task: Task, table: _Table) -> list[str]:
    labels = sorted({_text(row, task.label, table.source, number) for number, row in enumerate(table.rows)})
    if len(labels) < 2:
        raise DataError(f"{table.source} must have two or more labels in {task.label}, got {labels}")
    if len(labels) > max(50, len(table.rows) // 2):
        raise DataError(f"{table.source} must have few labels in {task.label}, got {len(labels)} different values")
    return labels


def _number(text: str, column: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where} must have a number in {column}, got {text!r}")
    return number


def _class(text: str, index: Mapping[str, int], where: str) -> int:
    if text in index:
        return index[text]
    if text.isdecimal() and int(text) < len(index) and not any(label.isdecimal() for label in index):
        return int(text)
    raise DataError(f"{where} must have a label of {', '.join(index)}, got {text!r}; set task.labels to all there are")


def _text(row: Mapping[str, Any], column: str, source: str, number: int) -> str:
    value = row.get(column)
    if value is None:
        raise DataError(f"{source}, row {number + 1} must have a value in {column}, got nothing")
    return str(value)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def default_data_dir() -> str | None:
    """Return the folder named by MOLEX_DATA, if any."""
    return os.environ.get("MOLEX_DATA") or None
