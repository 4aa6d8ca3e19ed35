"""A task's tables, from the hub, the official files, your own files, or a built-in generator; no torch."""

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from molex_cli.config.task import Files, Quoting, Task
from molex_cli.data import division, hub_rows
from molex_cli.errors import DataError, nearest
from molex_cli.models.hub.problems import Source
from molex_cli.runtime.paths import expanded, require_file

SPLITS = ("train", "validation")
Mode = Literal[0, 3]  # csv.QUOTE_MINIMAL, csv.QUOTE_NONE
MODES: dict[Quoting, Mode] = {Quoting.csv: csv.QUOTE_MINIMAL, Quoting.none: csv.QUOTE_NONE}
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
ZIPPED = b"PK\x03\x04"  # how a spreadsheet begins, whatever its name ends in
SHOWN_COLUMNS = 24


@dataclass(frozen=True)
class Table:
    """Rows under the task's own names, and where they are from."""

    source: str
    rows: Sequence[Mapping[str, Any]]
    numbers: Sequence[int] = ()
    """The index of each row in the source, from 0."""
    division: str = ""
    """Which rows of the source these are, where one file is divided."""
    commit: str | None = None
    """That of the hub which the rows are of."""


def table(task: Task, split: str, data_dir: str | None) -> Table:
    """Return the rows of a split; one without rows is an error."""
    whole = _source(task, split, data_dir)
    fitting = {
        number: row
        for number, row in enumerate(whole.rows)
        if all(str(row.get(name)) == value for name, value in task.where.items())
    }
    if not fitting:
        wanted = "".join(f" with {name}={value}" for name, value in task.where.items())
        raise DataError(f"the {split} split must have rows{wanted}, got none in {whole.source}")
    if task.files.split is None:
        return Table(whole.source, list(fitting.values()), list(fitting), commit=whole.commit)
    return _part(task, split, whole.source, fitting)


def _part(task: Task, split: str, source: str, rows: Mapping[int, Mapping[str, Any]]) -> Table:
    """Return the rows of a split of a file that is divided."""
    found = division.parts(task, rows, source)
    if split not in found:
        shares = list(task.files.split or [])
        raise DataError(
            f"task.files.split must have a third share for a {split} split, got {shares}; choose train or validation"
        )
    numbers = found[split]
    return Table(source, [rows[number] for number in numbers], numbers, division.described(task, found, source))


def files_of(task: Task, data_dir: str | None) -> list[Path]:
    """Return the files that a task's rows are read from, whether or not they are there."""
    if task.files.train:
        names = [getattr(task.files, split) for split in SPLITS]
        return [expanded(name) for name in names if name]
    if task.builtin or data_dir is None:
        return []
    return [Path(data_dir) / name for split in SPLITS if (name := getattr(task.official, split))]


def _source(task: Task, split: str, data_dir: str | None) -> Table:
    if task.builtin:
        return _builtin(task, split)
    if task.files.train:
        name = split if task.files.split is None else "train"
        if not getattr(task.files, name):
            raise DataError(f"task.files.{name} must name a file, got null")
        return _split_file(task, task.files, expanded(getattr(task.files, name)), f"task.files.{name}")
    official = getattr(task.official, split)
    if not (official if data_dir is not None and task.official.train else getattr(task.hub, split)):
        raise DataError(f"task={task.name} must have a {split} split, got none; choose train or validation")
    if data_dir is not None and official:
        if not Path(data_dir).is_dir():
            reason = "is no folder" if Path(data_dir).exists() else "does not exist"
            raise DataError(f"data_dir must be a folder with {official}, got {data_dir}, which {reason}")
        return _split_file(task, task.official, Path(data_dir) / official, "data_dir")
    return _hub(task, split)


def _builtin(task: Task, split: str) -> Table:
    from molex_cli.data import nli

    if task.builtin != "nli":
        raise DataError(f"task.builtin must be a built-in task, got {task.builtin}; choose nli")
    return Table("builtin nli", nli.rows(split))


def on_hub(task: Task, data_dir: str | None) -> Source | None:
    """Return the repository of the hub that rows of a task come from, if they do."""
    if task.builtin or task.files.train or not task.hub.path or (data_dir is not None and task.official.train):
        return None
    return _hub_source(task)


def _hub_source(task: Task) -> Source:
    official = task.official.train
    instead = (
        f"set data_dir=PATH (or MOLEX_DATA) to a folder that holds {official}"
        if official
        else "set task.files.train and task.files.validation"
    )
    return Source("dataset", str(task.hub.path), task.hub.revision, f"task={task.name}", instead)


def _hub(task: Task, split: str) -> Table:
    where = f"{task.hub.path}/{task.hub.subset}" if task.hub.subset else f"{task.hub.path}"
    rows = hub_rows.loaded(_hub_source(task), task.hub.subset, getattr(task.hub, split), f"task.hub.{split}")
    _require_columns([*_columns(task), task.label], rows.column_names, where, "set task.columns to what it has")
    commit = hub_rows.commit_of(rows)
    if task.hub.empty:
        rows = rows.filter(lambda row: row[task.hub.empty] is None).remove_columns(task.hub.empty)
    return Table(where, rows.to_list(), commit=commit)


def _alike(path: Path) -> str:
    """Return a hint at a file beside it with nearly its name, if there is one."""
    beside = [each.name for each in path.parent.iterdir() if each.is_file()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.75)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _split_file(task: Task, files: Files, path: Path, key: str) -> Table:
    if path.is_dir():
        raise DataError(f"{key} names {path}, which is a folder; name a file in it")
    if not path.is_file():
        raise DataError(f"{key} names {path}, which does not exist{_alike(path)}")
    if path.suffix.lower() not in ENDINGS:
        way_out = "; save it as csv" if path.suffix.lower() in SPREADSHEETS else ""
        raise DataError(f"{key} must end in {', '.join(ENDINGS)}, got {path}{way_out}")
    wanted = [*_columns(task), task.label]
    return _file(files, path, wanted, "set task.columns and task.label to what it has")


def unlabelled(task: Task, path: Path) -> Table:
    """Return the rows of a file as the task's own files are read; they need no label."""
    files = task.files if task.files.train else task.official
    return _file(files, path, _columns(task), "name its columns as in training")


def _file(files: Files, path: Path, wanted: Sequence[str], way_out: str) -> Table:
    try:
        columns, rows = _parsed(path, files)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(f"{path} must be UTF-8, got byte 0x{byte:02x} in line {line}; save it as UTF-8") from None
    except (csv.Error, json.JSONDecodeError, OSError, ValueError) as error:
        raise DataError(f"{path} must be a {path.suffix[1:].lower()} file, got: {_first_line(error)}") from error
    if files.rename:
        rows = [renamed_row(row, files.rename) for row in rows]
        columns = sorted({column for row in rows for column in row})
    if rows or columns:
        _require_columns(wanted, columns, str(path), way_out)
    return Table(str(path), rows)


def renamed_row(row: Mapping[str, Any], rename: Mapping[str, str]) -> dict[str, Any]:
    """Return the row under the task's names; a column whose old name is taken by another is gone."""
    renamed = {}
    for name, source_name in rename.items():
        value: Any = row
        for part in [source_name] if source_name in row else source_name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            renamed[name] = value
    return {column: value for column, value in row.items() if column not in rename.values()} | renamed


def _parsed(path: Path, files: Files) -> tuple[list[str], list[dict[str, Any]]]:
    ending = require_file(path).suffix.lower()
    if ending == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        return table.column_names, table.to_pylist()
    content = path.read_bytes()
    if content.startswith(ZIPPED):
        raise ValueError("a spreadsheet or another zip file; save it as csv")
    text = content.decode("utf-8-sig")
    if ending == ".jsonl":
        rows = [_object(line, number) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        return sorted({key for row in rows for key in row}), rows
    return _delimited(text, "\t" if ending == ".tsv" else _delimiter(text, files), files)


def _delimiter(text: str, files: Files) -> str:
    """Return what separates the cells of a csv file: a semicolon or tab where only that divides the header."""
    header = text.lstrip().partition("\n")[0]
    others = [each for each in ";\t" if each in header]
    return "," if files.header or "," in header or not others else max(others, key=header.count)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a deep nest
        raise ValueError(f"line {number}: {error}") from None
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
            raise ValueError(f"{len(cells)} cells in line {number} where the header has {len(header)}")
        rows.append(dict(zip(header, cells, strict=True)))
    return list(header), rows


def _cells(text: str, delimiter: str, quoting: Quoting) -> Iterator[list[str]]:
    """Return the rows of cells, blank lines left out."""
    csv.field_size_limit(2**31 - 1)
    mode = _quoting_of(text, delimiter) if quoting is Quoting.auto else MODES[quoting]
    return iter(list(_rows(text, delimiter, mode)))  # a text that is badly quoted fails before its rows are judged


def _rows(text: str, delimiter: str, mode: Mode) -> Iterator[list[str]]:
    parsed = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=mode, strict=True)
    return (cells for cells in parsed if cells)


def _quoting_of(text: str, delimiter: str) -> Mode:
    """Return how a text is quoted: unquoted where it has no quotation mark, or where unquoting goes wrong.

    Benchmarks write tab-separated text without quoting, and a stray quotation mark then merges rows in a reader
    that unquotes; spreadsheets quote. Unquoting goes wrong in two ways: the text is not well quoted, or two stray
    marks look like one quoted cell with a line break. The second shows in the plain rows: there are more of them,
    and all have one width. csv.Sniffer is not good enough: it judges a text by a pattern, without parsing it.
    """
    if '"' not in text:
        return csv.QUOTE_NONE
    try:
        unquoted_rows = sum(1 for _ in _rows(text, delimiter, csv.QUOTE_MINIMAL))
    except csv.Error:
        return csv.QUOTE_NONE
    widths = [len(cells) for cells in _rows(text, delimiter, csv.QUOTE_NONE)]
    stray_marks = len(widths) > unquoted_rows and len(set(widths)) == 1
    return csv.QUOTE_NONE if stray_marks else csv.QUOTE_MINIMAL


def _columns(task: Task) -> list[str]:
    """Return the columns of what a model reads."""
    return [*task.columns, *([task.choices] if task.choices else [])]


def _require_columns(wanted: Sequence[str], columns: Sequence[str], where: str, way_out: str) -> None:
    missing = [column for column in wanted if column not in columns]
    if missing:
        close = nearest(missing[0], columns)
        hint = f"{close} " if close.startswith("did you mean") else ""
        shown = [name if name == name.strip() and name else repr(name) for name in columns[:SHOWN_COLUMNS]]
        there = ", ".join([*shown, *(["..."] if len(columns) > SHOWN_COLUMNS else [])])
        raise DataError(
            f"{where} must have the columns {', '.join(wanted)}, got no {' and no '.join(missing)} among {there}; "
            f"{hint}{way_out}"
        )


def num_rows(task: Task, split: str, data_dir: str | None) -> int | None:
    """Return the rows of a split without going to the hub; None where they are not at hand."""
    official = getattr(task.official, split)
    if not task.builtin and (data_dir is None or not official or not (Path(data_dir) / official).is_file()):
        return None
    return len(table(task, split, data_dir).rows) if not task.builtin or split in SPLITS else None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
