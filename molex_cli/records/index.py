"""One file with what the records of a folder hold, so that a table of thousands of runs is read at once; no torch.

`index.jsonl` is only a copy: a line that is older than its record, or broken, is passed over for the record itself.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from molex_cli.errors import RecordError
from molex_cli.records import RECORD_VERSION, Record, as_json, lines_of, read_record
from molex_cli.records.renamed import record_of_today

NAME = "index.jsonl"
LEFT_OUT = ("routing", "command", "attempts")  # what is long and stands in no table


def add(folder: Path, record: Record) -> None:
    """Append a record to the index of the folder that its run's folder lies in."""
    line = {"folder": folder.name, "changed": _changed(folder), "record": _short(record)}
    # One write of a file opened for appending: lines of processes that end together do not mix.
    descriptor = os.open(folder.parent / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (as_json(line) + "\n").encode())
    finally:
        os.close(descriptor)


def read(output_dir: Path) -> tuple[dict[Path, Record], list[str]]:
    """Return the records of all runs directly in a folder, and a line on each that cannot be read."""
    lines = _lines(output_dir / NAME)
    records: dict[Path, Record] = {}
    problems: list[str] = []
    for folder in sorted(Path(entry.path) for entry in os.scandir(output_dir) if entry.is_dir()):
        if not (folder / "record.json").exists():
            continue
        try:
            records[folder] = _copied(lines.get(folder.name), folder) or read_record(folder)
        except RecordError as error:
            problems.append(str(error))
    return records, problems


def _copied(line: Any, folder: Path) -> Record | None:
    """Return the record that a line copies, if it is of this version and no older than the record."""
    try:
        if line["changed"] == _changed(folder) and line["record"]["version"] == RECORD_VERSION:
            return Record(**record_of_today(line["record"]))
    except (KeyError, TypeError, AttributeError):
        return None
    return None


def _lines(path: Path) -> dict[str, Any]:
    by_folder: dict[str, Any] = {}
    if path.exists():
        for text in lines_of(path):
            try:
                line = json.loads(text)
                by_folder[line["folder"]] = line
            except (json.JSONDecodeError, TypeError, KeyError):
                continue
    return by_folder


def _short(record: Record) -> dict[str, Any]:
    content = {key: value for key, value in asdict(record).items() if key not in LEFT_OUT}
    if record.error:
        content["error"] = {**record.error, "traceback": ""}
    return content


def _changed(folder: Path) -> int:
    return (folder / "record.json").stat().st_mtime_ns
