"""Rows without labels, to be predicted: of a table, read as the task's own files are, lines, or Python's; no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molex_cli.config.task import Task
from molex_cli.data.reading import inputs
from molex_cli.data.tables import ENDINGS, renamed_row, unlabelled
from molex_cli.errors import DataError
from molex_cli.records.files import as_json
from molex_cli.runtime.paths import require_file

EMPTY = "the line is empty"


@dataclass(frozen=True)
class NewRow:
    """A row to be predicted."""

    number: dict[str, int]
    """Which `row` of a table it is, or which `line` of a text, from 1."""
    texts: tuple[str, ...] = ()
    """The task's columns; none for a line that is none of the task's."""
    choices: tuple[str, ...] = ()
    error: str = ""
    """Why a line is none."""


def of_file(task: Task, labels: Sequence[str], path: Path) -> list[NewRow]:
    """Return the rows of a table, or the lines of any other file."""
    try:
        if path.suffix.lower() not in ENDINGS:
            lines = require_file(path).read_bytes().decode("utf-8-sig").split("\n")
            ends = lines[:-1] if lines[-1] == "" else lines
            return [of_line(task, labels, number, line) for number, line in enumerate(ends, start=1)]
        require_file(path).open("rb").close()  # a table's reader would not say so plainly that it cannot be opened
    except OSError as error:
        raise DataError(f"--file must be a file of rows or lines, got {path} ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8, got byte 0x{error.object[error.start]:02x}; save it as UTF-8") from None
    found = unlabelled(task, path)
    return [
        _row(task, labels, {"row": number}, row, f"{path}, row {number}")
        for number, row in enumerate(found.rows, start=1)
    ]


def of_rows(task: Task, labels: Sequence[str], rows: Any) -> list[NewRow]:
    """Return rows of Python: dicts with the task's columns, lists of their texts, texts; raise DataError for others."""
    rows = rows.to_dict("records") if hasattr(rows, "to_dict") else rows  # a table of pandas
    if isinstance(rows, str | Mapping) or not isinstance(rows, Iterable):
        raise DataError(f"rows must be a list of rows, got {type(rows).__name__}; write [{_example(task)}]")
    named = [(f"row {number}", {"row": number}, row) for number, row in enumerate(rows, start=1)]
    return [_row(task, labels, number, _named(task, row, where), where) for where, number, row in named]


def _named(task: Task, row: Any, where: str) -> Mapping[str, Any]:
    """Return a row of Python by the names of its columns."""
    if isinstance(row, Mapping):
        return _renamed(task, row, where, "the dict")
    cells, wanted = [row] if isinstance(row, str) else row, _wanted(task)
    if not isinstance(cells, Sequence) or len(cells) != len(wanted):
        count = f"{len(cells)} texts" if isinstance(cells, Sequence) else type(row).__name__
        raise DataError(f"{where} must be {' and '.join(wanted)}, got {count}; write {_example(task)}")
    return dict(zip(wanted, cells, strict=True))


def _wanted(task: Task) -> list[str]:
    """Return the columns of a row that is written out."""
    return [*task.columns, *([task.choices] if task.choices else [])]


def _example(task: Task) -> str:
    return as_json({column: ["...", "..."] if column == task.choices else "..." for column in _wanted(task)})


def of_line(task: Task, labels: Sequence[str], number: int, line: str) -> NewRow:
    """Return a line as a row: a JSON object with the task's columns, or these separated by tabs; or why it is none."""
    line = line.removesuffix("\n").removesuffix("\r")
    if not line.strip():
        return NewRow({"line": number}, error=EMPTY)
    try:
        return _row(task, labels, {"line": number}, _content(task, line, f"line {number}"), f"line {number}")
    except DataError as error:
        return NewRow({"line": number}, error=str(error))


def _content(task: Task, line: str, where: str) -> dict[str, Any]:
    if (row := _object(task, line, where)) is not None:
        return row
    cells = line.split("\t")
    if len(cells) != len(task.columns):
        raise DataError(
            f"{where} must be {' and '.join(task.columns)} separated by tabs, or a JSON object with "
            f"{'them' if len(task.columns) > 1 else 'it'}, got {len(cells)} cells; "
            f"write {as_json(dict.fromkeys(task.columns, '...'))}"
        )
    return dict(zip(task.columns, cells, strict=True))


def _object(task: Task, line: str, where: str) -> dict[str, Any] | None:
    """Return the JSON object in a line, which must have the task's columns; None where its braces are text."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    return _renamed(task, content, where, "its JSON object")


def _renamed(task: Task, content: Mapping[str, Any], where: str, what: str) -> dict[str, Any]:
    """Return a row under the task's names; raise DataError where it lacks a column."""
    files = task.files if task.files.train else task.official
    row = renamed_row(content, files.rename)
    if missing := [column for column in task.columns if column not in row]:
        raise DataError(
            f"{where} must have {' and '.join(missing)} in {what}, got {', '.join(map(str, content)) or 'nothing'}; "
            "rename what is there, or write the line as text"
        )
    return row


def _row(task: Task, labels: Sequence[str], number: dict[str, int], row: Mapping[str, Any], where: str) -> NewRow:
    texts, _, choices = inputs(task, row, labels, where)
    return NewRow(number, texts, choices)
