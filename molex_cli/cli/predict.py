"""`molex predict`: what a saved run predicts for new rows."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from molex_cli.cli import saved
from molex_cli.cli.parser import Parser
from molex_cli.errors import ConfigError, DataError
from molex_cli.runtime.paths import expanded

SUMMARY = "predictions of a saved run for lines of a file or of standard input"


@dataclass(kw_only=True)
class Settings(saved.SavedRunSettings):
    """Which run."""


def main(argv: list[str]) -> int:
    """Print a line of JSON for each line of the input."""
    parser = Parser(
        "predict",
        "Predict lines with a saved run: the task's columns separated by tabs, or JSON objects with them.",
        epilog="example: printf 'A cat sleeps.\\tAn animal sleeps.\\n' | molex predict run=outputs/NAME",
    )
    parser.add_overrides("run=PATH, which=last|best, hardware=...")
    parser.add_argument("--file", default="-", help="file of lines; - is standard input (default)")
    options = parser.parse(argv)
    settings, experiment, _ = saved.read(Settings, options.overrides, ("hardware",))

    from molex_cli.checkpoints import saved_run
    from molex_cli.records import as_json

    run = saved_run.opened(expanded(settings.run), settings.which, experiment.hardware)
    rows = _rows(_lines(options.file), run.experiment.task.columns)
    for answer in saved_run.predict(run, rows) if rows else []:
        print(as_json(answer))
    return 0


def _lines(file: str) -> list[str]:
    try:
        text = sys.stdin.read() if file == "-" else expanded(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"--file must be a file of lines, got {file} ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file} must be UTF-8, got byte 0x{error.object[error.start]:02x}; save it as UTF-8") from None
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _rows(lines: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("{"):
            try:
                rows.append(json.loads(line))
                continue
            except json.JSONDecodeError as error:
                raise DataError(f"line {number} must be a JSON object, got: {error.msg}") from None
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise ConfigError(
                f"line {number} must be {' and '.join(columns)} separated by tabs, got {len(cells)} cells"
            )
        rows.append(dict(zip(columns, cells, strict=True)))
    return rows
