"""`molex compare`: which arm is better, by how much, and whether that is more than noise."""

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli import targets
from molex_cli.cli.parser import Parser
from molex_cli.compare import formats
from molex_cli.compare.choices import FAMILIES, SHOWN
from molex_cli.errors import ConfigError
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.compare.request import Request
    from molex_cli.compare.table import Comparison

SUMMARY = "compare runs: verdicts, mean ± sd over seeds, paired tests, confounds; text, md, csv, json, latex, a page"
EVERYTHING = ("csv", "json", "html")  # formats for reading by machines, and a page that has room
LABEL = re.compile(r"[A-Za-z0-9:._-]*")
FIGURES = ("scores", "differences", "curves", "rates")
JOINT = "\0"  # between the kind of a figure and its file, which no path has


def main(argv: list[str]) -> int:
    """Compare the runs of some paths."""
    options = _parser().parse(_kinds_joined(argv))
    request = _request(options)
    _require_possible(options)
    request.require_possible()
    from molex_cli.compare import figure

    paths = [located(path) for path in options.paths]
    found = request.loaded(paths)
    for line in found.left_out:
        say(f"left out: {line}", file=sys.stderr)
    report = request.report(found, paths)
    name, path = ("html", options.html) if options.html else (options.format, options.output)
    report = replace(
        report,
        folder=path and path.parent,
        columns=_columns(options.columns, report.table, name),
        caption=options.caption,
        label=options.label,
        is_verbose=options.verbose,
        sections=targets.sections(options.targets, report.table, name),
    )
    for kind, file in options.figure:
        figure.write(report, file, options.figure_width or figure.COLUMN, kind)
        say(f"written: {file}", file=sys.stderr)
    _write(path, formats.text(name, report))
    if options.html:
        say(f"written: {options.html}")
    return 0


def _request(options: Namespace) -> "Request":
    """Return what is asked of a comparison, apart from how it is shown."""
    from molex_cli.compare.request import Request, keys

    tune, seeds = _tuned(options.tune, options.tuning_seeds)
    return Request(
        rows=keys(options.rows),
        cols=keys(options.cols),
        which=options.which,
        evaluation=options.evaluation,
        metric=options.metric,
        against=options.against,
        adjust=options.adjust,
        show=options.show,
        detect=options.detect,
        tune=tune,
        tuning_seeds=seeds,
        claims=options.claims,
    )


def _parser() -> Parser:
    examples = (
        "molex compare outputs/",
        "molex compare outputs/ --rows method,method.rank --cols task",
        "molex compare outputs/ --html report.html",
        "molex compare outputs/ --tune train.learning_rate --tuning-seeds 1000,1001",
    )
    parser = Parser("compare", __doc__, examples=examples)
    parser.add_argument("paths", nargs="+", type=expanded, help="folders of runs, run folders, records, hub:USER/NAME")
    parser.add_argument("--rows", default="method", help="settings that make an arm, e.g. method,method.rank")
    parser.add_argument("--cols", default="task,model", help="settings that make a column, e.g. task")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="evaluation that is compared")
    parser.add_argument(
        "--evaluation",
        metavar="NAME",
        help="compare what molex eval scored: validation, test, train, a task of lm_eval or the name of a text's file",
    )
    parser.add_argument(
        "--metric", default="", metavar="NAME", help="of a task of lm_eval or a text; default: its first"
    )
    parser.add_argument("--against", help="compare every arm with this row instead of with the best")
    parser.add_argument(
        "--adjust", choices=FAMILIES, default="holm", help="correction for many tests: Holm, or Benjamini-Hochberg"
    )
    parser.add_argument(
        "--show",
        action="append",
        choices=SHOWN,
        default=[],
        help="show the median, or the mean of seeds that trained, beside the mean",
    )
    parser.add_argument(
        "--detect", type=float, metavar="POINTS", help="print how many seeds would find a difference of this size"
    )
    parser.add_argument(
        "--tune", metavar="SETTINGS", help="compare each arm at its best values of these, chosen by other runs"
    )
    parser.add_argument("--tuning-seeds", metavar="SEEDS", help="seeds of these runs, which the table leaves out")
    parser.add_argument("--columns", metavar="NAMES", help="columns that are shown, e.g. scores,trainable; or all")
    parser.add_argument("--caption", default="", help="of a LaTeX table, which then floats")
    parser.add_argument("--label", default="", help="of a LaTeX table with a caption, e.g. tab:results")
    parser.add_argument("--verbose", action="store_true", help="show notes on details, too")
    parser.add_argument("--format", choices=formats.names(), default="table", help="what is printed or written")
    parser.add_argument(
        "--claims",
        type=expanded,
        metavar="FILE",
        help="hypotheses to be judged; flags those that are younger than their runs",
    )
    targets.add_flag(parser)
    parser.add_argument("--html", type=expanded, metavar="FILE", help="write one self-contained page")
    parser.add_argument(
        "--figure",
        type=_figure,
        action="append",
        default=[],
        metavar="[KIND] FILE",
        help=f"draw {', '.join(FIGURES)} (differences if none is named) for a paper: FILE.pdf, .svg or .png",
    )
    parser.add_argument("--figure-width", type=float, metavar="INCHES", help="default: 3.3, a column")
    parser.add_argument("--output", type=expanded, help="file to write instead of standard output")
    return parser


def _kinds_joined(argv: Sequence[str]) -> list[str]:
    """Return the arguments with each `--figure KIND FILE` as one value, which argparse can tell from a path."""
    joined = list(argv)
    for place in reversed([i for i, each in enumerate(argv[:-2]) if each == "--figure" and argv[i + 1] in FIGURES]):
        joined[place + 1 : place + 3] = [f"{argv[place + 1]}{JOINT}{argv[place + 2]}"]
    return joined


def _figure(text: str) -> tuple[str, Path]:
    """Return the kind of a figure and its file."""
    kind, joint, file = text.partition(JOINT)
    return (kind, expanded(file)) if joint else ("differences", expanded(text))


def _require_figures(figures: Sequence[tuple[str, Path]], width: float | None) -> None:
    """Raise ConfigError where a figure cannot be what was asked for."""
    from molex_cli.compare import figure

    for _, path in figures:
        if not path.suffix:
            kinds = f"one of {', '.join(FIGURES)} may stand before it"
            raise ConfigError(f"--figure must name a file such as scores.pdf, got {path}; {kinds}")
        figure.require(path, figure.COLUMN if width is None else width)
    if not figures and width is not None:
        raise ConfigError(f"--figure-width must come with --figure, got {width:g} alone; add --figure FILE.pdf")


def _require_possible(options: Namespace) -> None:
    """Raise ConfigError for options that mean nothing, or nothing beside others."""
    _require_figures(options.figure, options.figure_width)
    _require_latex(options)
    if options.html and (options.output or options.format != "table"):
        other = f"--output {options.output}" if options.output else f"--format {options.format}"
        raise ConfigError(
            f"--html must be the only file of a comparison, got {other} too; run the command once for each"
        )


def _require_latex(options: Namespace) -> None:
    """Raise ConfigError for a caption or a label that no table would have."""
    for flag in filter(lambda flag: getattr(options, flag), ("caption", "label")):
        if options.html or options.format != "latex":
            raise ConfigError(f"--{flag} must go with --format latex, got {'html' if options.html else options.format}")
    if options.label and not options.caption:
        raise ConfigError(f"--label must go with --caption, got {options.label} alone")
    if not LABEL.fullmatch(options.label):
        raise ConfigError(f"--label must be of letters, digits and : . - _, got {options.label}")


def _columns(text: str | None, table: "Comparison", name: str) -> list[str]:
    """Return the names of the columns that are to be shown, once they are known to be columns."""
    from molex_cli.compare.layout import chosen
    from molex_cli.compare.request import keys

    if text is None:
        return []
    if name in EVERYTHING:
        raise ConfigError(f"--columns must go with a format that leaves some out, got {name}, which always has all")
    if not (names := keys(text)):
        raise ConfigError("--columns must name a column at least, got none; --columns all shows every one")
    chosen(table, names)
    return names


def _tuned(settings: str | None, seeds: str | None) -> tuple[list[str], list[int]]:
    """Return what is tuned, and on which seeds."""
    from molex_cli.compare.request import keys

    tuned = keys(settings or "")
    if settings is not None and not tuned:
        raise ConfigError("--tune must name a setting at least, got none")
    try:
        found = [] if seeds is None else [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--tuning-seeds must be whole numbers, such as 1000,1001, got {seeds}") from None
    return list(dict.fromkeys(tuned)), list(dict.fromkeys(found))


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
