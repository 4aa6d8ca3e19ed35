"""`molex compare`: which arm is better, by how much, and whether that is more than noise."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.cli.parser import Parser
from molex_cli.compare import formats
from molex_cli.errors import ConfigError
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.compare.loading import Run
    from molex_cli.compare.table import Comparison
    from molex_cli.compare.tuning import Tuning

SUMMARY = "runs to an honest table: mean ± sd over seeds, paired tests, what is not matched; md, csv, json, latex"
MOST_NAMES = 6
FAMILIES = {"holm": "Holm", "bh": "Benjamini-Hochberg"}


def main(argv: list[str]) -> int:
    """Compare the runs of some paths."""
    options = _parser().parse(argv)
    if options.detect is not None and options.detect <= 0:
        raise ConfigError(f"--detect must be a difference above 0, got {options.detect}")
    from molex_cli.compare import figure
    from molex_cli.compare.confounds import confounds
    from molex_cli.compare.layout import Report
    from molex_cli.compare.loading import load
    from molex_cli.compare.table import compare
    from molex_cli.compare.tuning import Tuning

    tuned, seeds = _tuned(options.tune, options.tuning_seeds)
    _require_figure(options.figure, options.figure_width)
    found = load(options.paths, options.which)
    for line in found.left_out:
        say(f"left out: {line}", file=sys.stderr)
    if not found.runs:
        raise ConfigError(f"paths must hold finished runs, got none in {', '.join(map(str, options.paths))}")
    rows, cols, adjust = _keys(options.rows), _keys(options.cols), FAMILIES[options.adjust]
    tuning = Tuning(tuned, seeds, found.diverged)
    table = compare(found.runs, rows, cols, options.which, options.against, adjust, options.detect, tuning)
    notes = [*_verdicts(options.claims, table), *(f"not matched: {line}" for line in confounds(table))]
    notes += [f"left out: {line}" for line in _diverged(found.diverged, tuning)]
    table.show = tuple(options.show)
    name, path = ("html", options.html) if options.html else (options.format, options.output)
    report = Report(table, notes, path and path.parent)
    if options.figure:
        figure.write(report, options.figure, options.figure_width or figure.COLUMN)
        say(f"written: {options.figure}", file=sys.stderr)
    _write(path, formats.text(name, report))
    if options.html:
        say(f"written: {options.html}")
    return 0


def _parser() -> Parser:
    examples = (
        "molex compare outputs/",
        "molex compare outputs/ --rows method,method.rank --cols task",
        "molex compare outputs/ --html report.html",
        "molex compare outputs/ --tune train.learning_rate --tuning-seeds 1000,1001",
    )
    parser = Parser("compare", __doc__, examples=examples)
    parser.add_argument("paths", nargs="+", type=expanded, help="folders of runs, run folders, records")
    parser.add_argument("--rows", default="method", help="settings that make an arm, e.g. method,method.rank")
    parser.add_argument("--cols", default="task,model", help="settings that make a column, e.g. task")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="evaluation that is compared")
    parser.add_argument("--against", help="compare every arm with this row instead of with the best")
    parser.add_argument("--adjust", choices=FAMILIES, default="holm", help="for many tests: any error, or their share")
    parser.add_argument(
        "--show",
        action="append",
        choices=("median", "trained"),
        default=[],
        help="what stands beside the mean over seeds",
    )
    parser.add_argument(
        "--detect", type=float, metavar="POINTS", help="tell how many seeds would find a difference of this size"
    )
    parser.add_argument("--tune", metavar="SETTINGS", help="of each arm compare the best values, as other runs tell")
    parser.add_argument("--tuning-seeds", metavar="SEEDS", help="seeds of these runs, which the table leaves out")
    parser.add_argument("--format", choices=formats.names(), default="table", help="what is printed or written")
    parser.add_argument(
        "--claims",
        type=expanded,
        metavar="FILE",
        help="hypotheses to be judged; flags those that are younger than their runs",
    )
    parser.add_argument("--html", type=expanded, metavar="FILE", help="write one self-contained page")
    parser.add_argument(
        "--figure", type=expanded, metavar="FILE", help="draw the differences for a paper: FILE.pdf, .svg or .png"
    )
    parser.add_argument("--figure-width", type=float, metavar="INCHES", help="default: 3.3, a column")
    parser.add_argument("--output", type=expanded, help="file to write instead of standard output")
    return parser


def _require_figure(path: Path | None, width: float | None) -> None:
    """Raise ConfigError where a figure cannot be what was asked for."""
    from molex_cli.compare import figure

    if path is not None:
        figure.require(path, figure.COLUMN if width is None else width)
    elif width is not None:
        raise ConfigError(f"--figure-width must come with --figure, got {width:g} alone; add --figure FILE.pdf")


def _keys(text: str) -> list[str]:
    return [key for key in text.split(",") if key]


def _tuned(settings: str | None, seeds: str | None) -> tuple[list[str], list[int]]:
    """Return what is tuned, and on which seeds."""
    if settings is None and seeds is None:
        return [], []
    if settings is None or seeds is None:
        alone = "--tuning-seeds" if settings is None else "--tune"
        raise ConfigError(f"--tune must go with --tuning-seeds, got {alone} alone")
    if not (keys := _keys(settings)):
        raise ConfigError("--tune must name a setting at least, got none")
    try:
        found = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--tuning-seeds must be whole numbers, such as 1000,1001, got {seeds}") from None
    return list(dict.fromkeys(keys)), list(dict.fromkeys(found))


def _diverged(runs: "Sequence[Run]", tuning: "Tuning") -> Iterator[str]:
    """Yield a line on runs that diverged, which have no score and would flatter their arm unseen; trials count."""
    if names := [run.folder.name for run in runs if run not in tuning.failures]:
        shown = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
        yield f"training diverged in {shown}; without these runs their arms look better than they are"


def _verdicts(path: Path | None, table: "Comparison") -> list[str]:
    if path is None:
        return []
    from molex_cli.compare import hypotheses, registration

    claims = hypotheses.read_claims(path)
    registered = registration.registered(path, claims)
    judged = hypotheses.lines(hypotheses.verdicts(claims, table, [each.when for each in registered.written]), table)
    return [*(f"claim: {line}" for line in judged), f"claims: {registered.told()}"]


def _write(path: Path | None, text: str) -> None:
    if path is None:
        print(text, end="")  # noqa: T201, every format escapes what it writes
        return
    from molex_cli.records import unwritable, write_text
    from molex_cli.records.partial import remove_stale

    try:
        remove_stale(path.parent, path.name)
        write_text(path, text)
    except OSError as error:
        raise unwritable(str(path), error, "--output must be a file") from None
