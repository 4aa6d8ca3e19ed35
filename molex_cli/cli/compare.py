"""`molex compare`: which arm is better, by how much, and whether that is more than noise."""

import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.cli import targets
from molex_cli.cli.parser import Parser
from molex_cli.compare import formats
from molex_cli.errors import ConfigError
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.compare.layout import Report
    from molex_cli.compare.loading import LoadedRuns, Run
    from molex_cli.compare.table import Comparison
    from molex_cli.compare.tuning import Tuning

SUMMARY = "runs to an honest table: mean ± sd over seeds, paired tests, what is not matched; md, csv, json, latex"
MOST_NAMES = 6
EVERYTHING = ("csv", "json", "html")  # formats for reading by machines, and a page that has room
LABEL = re.compile(r"[A-Za-z0-9:._-]*")
FIGURES = ("scores", "differences", "curves", "rates")
JOINT = "\0"  # between the kind of a figure and its file, which no path has
FAMILIES = {"holm": "Holm", "bh": "Benjamini-Hochberg"}


def main(argv: list[str]) -> int:
    """Compare the runs of some paths."""
    options = _parser().parse(_kinds_joined(argv))
    tuned, seeds = _tuned(options.tune, options.tuning_seeds)
    _require_possible(options)
    from molex_cli.compare import figure
    from molex_cli.compare.table import compare
    from molex_cli.compare.tuning import Tuning

    found = _loaded(options)
    rows, cols, adjust = _keys(options.rows), _keys(options.cols), FAMILIES[options.adjust]
    tuning = Tuning(tuned, seeds, found.diverged)
    table = compare(found.runs, rows, cols, options.which, options.against, adjust, options.detect, tuning)
    table.show = tuple(options.show)
    name, path = ("html", options.html) if options.html else (options.format, options.output)
    report = replace(
        _report(table, _verdicts(options.claims, table), found, tuning),
        folder=path and path.parent,
        columns=_columns(options.columns, table, name),
        caption=options.caption,
        label=options.label,
        is_verbose=options.verbose,
        sections=targets.sections(options.targets, table, name),
    )
    for kind, file in options.figure:
        figure.write(report, file, options.figure_width or figure.COLUMN, kind)
        say(f"written: {file}", file=sys.stderr)
    _write(path, formats.text(name, report))
    if options.html:
        say(f"written: {options.html}")
    return 0


def _loaded(options: Namespace) -> "LoadedRuns":
    """Return the runs that are compared; say which are left out, and raise ConfigError where none is left."""
    from molex_cli.compare import evaluated
    from molex_cli.compare.loading import load

    found = load(options.paths, "" if options.evaluation else options.which)
    if options.evaluation:
        found = evaluated.on_split(found, options.which, options.evaluation, options.metric)
    for line in found.left_out:
        say(f"left out: {line}", file=sys.stderr)
    if not found.runs:
        raise ConfigError(f"paths must hold finished runs, got none in {', '.join(map(str, options.paths))}")
    return found


def _report(table: "Comparison", claims: Sequence[str], found: "LoadedRuns", tuning: "Tuning") -> "Report":
    """Return the report on a table, with its verdicts and what speaks against them."""
    from molex_cli.compare.confounds import confounds
    from molex_cli.compare.layout import Report
    from molex_cli.compare.remarks import Heading, Note
    from molex_cli.compare.verdicts import verdicts

    notes = [Note(Heading.claims, line) for line in claims] + confounds(table)
    notes += [Note(Heading.left_out, line) for line in _diverged(found.diverged, tuning)]
    # A terminal has had them on standard error; who is given the file has not.
    notes += [Note(Heading.left_out, line, is_detail=True) for line in _shortened(found.left_out)]
    return Report(table, notes, answers=verdicts(table), runs=found.runs, diverged=found.diverged)


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
    parser.add_argument(
        "--evaluation",
        metavar="NAME",
        help="compare what molex eval scored: validation, test, train, a task of lm_eval or the name of a text's file",
    )
    parser.add_argument(
        "--metric", default="", metavar="NAME", help="of a task of lm_eval or a text; default: its first"
    )
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
    if options.detect is not None and options.detect <= 0:
        raise ConfigError(f"--detect must be a difference above 0, got {options.detect}")
    _require_figures(options.figure, options.figure_width)
    _require_latex(options)
    _require_metric(options)
    if options.html and (options.output or options.format != "table"):
        other = f"--output {options.output}" if options.output else f"--format {options.format}"
        raise ConfigError(
            f"--html must be the only file of a comparison, got {other} too; run the command once for each"
        )


def _require_metric(options: Namespace) -> None:
    """Raise ConfigError for a metric where the run's own first one is compared, and for tuning where it is not."""
    from molex_cli.compare.evaluated import SPLITS

    if options.tune and options.evaluation not in (None, *SPLITS):
        raise ConfigError(f"--tune must go with a split of the runs' own task, got --evaluation {options.evaluation}")
    if options.metric and options.evaluation in (None, *SPLITS):
        at = f"--evaluation {options.evaluation}" if options.evaluation else "no --evaluation"
        raise ConfigError(
            f"--metric must go with --evaluation and a task of lm_eval or a text, got {at}; a split's is task.metrics"
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


def _keys(text: str) -> list[str]:
    return [key for key in text.split(",") if key]


def _columns(text: str | None, table: "Comparison", name: str) -> list[str]:
    """Return the names of the columns that are to be shown, once they are known to be columns."""
    from molex_cli.compare.layout import chosen

    if text is None:
        return []
    if name in EVERYTHING:
        raise ConfigError(f"--columns must go with a format that leaves some out, got {name}, which always has all")
    if not (names := _keys(text)):
        raise ConfigError("--columns must name a column at least, got none; --columns all shows every one")
    chosen(table, names)
    return names


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


def _shortened(left_out: Sequence[str]) -> list[str]:
    """Return the first lines of many, and how many there are besides."""
    more = len(left_out) - MOST_NAMES
    return [*left_out[:MOST_NAMES], *([f"{more} more run{'' if more == 1 else 's'} or records"] if more > 0 else [])]


def _verdicts(path: Path | None, table: "Comparison") -> list[str]:
    if path is None:
        return []
    from molex_cli.compare import hypotheses, registration

    claims = hypotheses.read_claims(path)
    registered = registration.registered(path, claims)
    judged = hypotheses.lines(hypotheses.verdicts(claims, table, [each.when for each in registered.written]), table)
    return [*judged, registered.told()]


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
