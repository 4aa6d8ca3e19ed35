"""`molex predict`: what a saved run predicts for new rows."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import TYPE_CHECKING

from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli import saved
from molex_cli.cli.parser import Parser
from molex_cli.errors import DataError
from molex_cli.records.run_folder import adapter_of
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.data.unlabelled import NewRow

SUMMARY = "predict the rows of a file, or the lines of standard input, with a saved run"
READ = ("hardware", "cache_dir")
BATCHES = 32  # of a file, before their answers are printed


@dataclass(kw_only=True)
class Settings(saved.SavedRunSettings):
    """Which run."""


def main(argv: list[str]) -> int:
    """Print a line of JSON for each row of a file, or for each line as soon as it is there."""
    parser = Parser(
        "predict",
        "Predict with a saved run: the rows of a table (csv, tsv, jsonl, parquet) whose columns have their names in "
        "training, or lines: the task's columns separated by tabs, or JSON objects with them.",
        examples=(
            "molex predict outputs/NAME --file new.csv",
            "printf 'A cat sleeps.\\tAn animal sleeps.\\n' | molex predict outputs/NAME",
        ),
    )
    parser.add_overrides(own=Settings, reads=READ)
    parser.add_argument("--file", default="-", help="a table or a file of lines; - is standard input (default)")
    options = parser.parse(argv)
    settings, experiment, _ = saved.read(Settings, options.overrides, READ)
    path = located(settings.run)
    adapter_of(path, settings.which)

    from molex_cli.checkpoints import saved_run
    from molex_cli.data import unlabelled
    from molex_cli.records import as_json

    about = saved_run.about(path, settings.which)
    task, size = about.experiment.task, about.experiment.train.eval_batch_size
    rows = None if options.file == "-" else unlabelled.of_file(task, about.labels, expanded(options.file))
    run = saved_run.opened(path, settings.which, experiment.hardware, experiment.cache_dir)
    if rows is None:
        lines = enumerate(_typed_lines(), start=1)
        parts: Iterable[Sequence[NewRow]] = ([unlabelled.of_line(task, about.labels, *line)] for line in lines)
    else:
        parts = (rows[i : i + size * BATCHES] for i in range(0, len(rows), size * BATCHES))
    unreadable = False
    for part in parts:
        for answer in saved_run.predict(run, part):
            say(as_json(answer), flush=True)
        unreadable = unreadable or any(row.error not in ("", unlabelled.EMPTY) for row in part)
    return 2 if unreadable else 0


def _typed_lines() -> Iterator[str]:
    """Yield each line of standard input as soon as it is there."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict", newline="\n")
    try:
        yield from iter(sys.stdin.readline, "")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"standard input must be UTF-8, got byte 0x{byte:02x}; give it as UTF-8") from None
