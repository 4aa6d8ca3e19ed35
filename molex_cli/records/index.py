"""One file with what the records of a folder hold, so that a table of thousands of runs is read at once; no torch.

`index.jsonl` is only a copy: a line that is older than its record, or broken, is passed over for the record itself.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from molex_cli.errors import RecordError
from molex_cli.records import RECORD_VERSION, Record, as_json, lines_of, read_record
from molex_cli.records.reading import Misfit, parsed
from molex_cli.records.record import record_from

NAME = "index.jsonl"
LEFT_OUT = ("routing", "command")  # what is long and stands in no table


class Line(msgspec.Struct):
    """A line of the index."""

    folder: str
    changed: int
    record: msgspec.Raw


def add(folder: Path, record: Record) -> None:
    """Append a record to the index of the folder that its run's folder lies in."""
    line = {"folder": folder.name, "changed": _changed(folder), "record": _short(record)}
    # One write of a file opened for appending: lines of processes that end together do not mix.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK  # a pipe that nobody reads is an error, no wait
    descriptor = os.open(folder.parent / NAME, flags, 0o644)
    try:
        os.write(descriptor, (as_json(line) + "\n").encode())
    finally:
        os.close(descriptor)


def read(output_dir: Path) -> tuple[dict[Path, Record], dict[Path, str]]:
    """Return the records of all runs directly in a folder, and a line on each that cannot be read."""
    lines = _lines(output_dir / NAME)
    records: dict[Path, Record] = {}
    problems: dict[Path, str] = {}
    for folder in _folders(output_dir):
        try:
            changed = _changed(folder)
        except OSError:  # it holds no run
            continue
        try:
            records[folder] = _copied(lines.get(folder.name), changed) or read_record(folder)
        except RecordError as error:
            problems[folder] = str(error)
    return records, problems


def _folders(output_dir: Path) -> list[Path]:
    try:
        with os.scandir(output_dir) as entries:
            return [output_dir / name for name in sorted(entry.name for entry in entries if entry.is_dir())]
    except OSError as error:
        raise RecordError(f"{output_dir} must be a folder that can be read, got {error.strerror}") from None


def _copied(line: Line | None, changed: int) -> Record | None:
    """Return the record that a line copies, if it is of this version and no older than the record.

    Lines of before left its attempts out, which tell when a run was first started.
    """
    if line is None or line.changed != changed:
        return None
    try:
        content = parsed(bytes(line.record), dict[str, Any])
        is_whole = content.get("version") == RECORD_VERSION and "attempts" in content
        return record_from(content) if is_whole else None
    except Misfit:
        return None


def _lines(path: Path) -> dict[str, Line]:
    """Return the last line on each folder, its record still unread; of a damaged index those that are whole."""
    by_folder: dict[str, Line] = {}
    decoder = msgspec.json.Decoder(Line)
    try:
        lines = lines_of(path)
    except RecordError:  # there is none, or it is no file: the records themselves are read
        return {}
    for text in lines:
        try:
            line = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        by_folder[line.folder] = line
    return by_folder


def _short(record: Record) -> dict[str, Any]:
    content = {key: value for key, value in asdict(record).items() if key not in LEFT_OUT}
    if record.error:
        content["error"] = {**record.error, "traceback": ""}
    return content


def _changed(folder: Path) -> int:
    return (folder / "record.json").stat().st_mtime_ns
