"""What a reader must know beside the numbers: notes under headings, of which some are details."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from molex_cli.compare import tuned_values
from molex_cli.compare.judging import ALPHA
from molex_cli.compare.table import Comparison
from molex_cli.statistics.intervals import LEAST_SEEDS

MARKS = {"provisional": "°", "degenerate": "†", "collapsed": "‡", "published variant": "ᵖ"}
MEANING = {
    "°": "provisional: fewer than 3 seeds, which have no p",
    "†": "degenerate: a run predicts a constant, has an undefined score or failed a self-check",
    "‡": "a seed collapsed: its score is no better than a constant prediction's, or undefined, and counts as that",
    "ᵖ": "reproduces a published implementation, quirks included",
}
ROWS = re.compile(r"on [\d,]+ training rows")  # how many differs from task to task
BOUND = "how many may at most (one-sided 95 %)"
VARIANCES = {"pair": "each pair's own", "pooled": "pooled over all arms, or a pair's own where that is larger"}


class Heading(StrEnum):
    """What notes are about, in the order in which they are shown."""

    claims = "Claims"
    history = "History"
    confounds = "Confounds"
    left_out = "Left out"
    small = "Small samples"
    tuning = "Tuning"
    reading = "Reading"


@dataclass(frozen=True)
class Note:
    """A line for the reader."""

    heading: Heading
    text: str
    is_detail: bool = False
    """Whether a terminal shows it with `--verbose` alone."""


def by_heading(notes: Iterable[Note]) -> dict[Heading, list[Note]]:
    """Return the notes under their headings, these in their order."""
    found = list(notes)
    grouped = {heading: [note for note in found if note.heading is heading] for heading in Heading}
    return {heading: own for heading, own in grouped.items() if own}


def legend(table: Comparison) -> list[Note]:
    """Return which scores are shown, how they were tested, and what the marks mean."""
    used = {note for cell in table.cells.values() for note in cell.notes}
    lines = [Note(Heading.small, f"° {MEANING['°']}")] if "provisional" in used else []
    lines += [Note(Heading.tuning, line) for line in tuned_values.lines(table)]
    splits = {run.split for cell in table.cells.values() for run in cell.runs} - {""}
    rule = "the last evaluation" if table.which == "last" else _selection(table)
    rule += f", on {', '.join(splits)} as molex eval scored it" if splits else ""
    reading = [f"scores of {rule}; mean ± standard deviation over seeds (number of seeds)"]
    reading += _tests(table) if table.is_judged else []
    reading += ["trained: mean over the seeds that did not collapse"] if "trained" in table.show else []
    reading += [f"{mark} {MEANING[mark]}" for note, mark in MARKS.items() if note in used and mark != "°"]
    lines += [Note(Heading.reading, line) for line in reading]
    has_told = "collapsed" not in used and all(cell.tells_collapses for cell in table.cells.values())
    lines.append(Note(Heading.reading, _collapsed(table), is_detail=has_told))
    return lines + [Note(Heading.reading, f"variance over seeds: {each}", is_detail=True) for each in _variances(table)]


def _collapsed(table: Comparison) -> str:
    unknown = "; ?: the records do not tell" if any(not cell.tells_collapses for cell in table.cells.values()) else ""
    each = f" ({', '.join(table.cols)})" if len(table.cols) > 1 else ""
    return f"collapsed: seeds that learned nothing, of all{each}, and {BOUND}{unknown}"


def _tests(table: Comparison) -> list[str]:
    """Return how arms were tested."""
    test = f"paired test, {table.adjust} over all {'pairs' if table.against is None else 'tests'}, α = {ALPHA}"
    if table.against is None:
        return [f"bold: best of its column; underlined: not significantly different from it ({test})"]
    return [f"bold: best of its column; p: {test}"]


def _variances(table: Comparison) -> list[str]:
    """Return by which variance over seeds the arms of which columns were compared."""
    found: dict[str, list[str]] = {}
    for col in table.cols:
        compared = [cell.difference for cell in table.column(col).values() if cell.difference]
        for variance in sorted({each.variance for each in compared if len(each.seeds) >= LEAST_SEEDS}):
            found.setdefault(variance, []).append(col)
    return [f"{VARIANCES[variance]} in {', '.join(cols)}" for variance, cols in found.items()]


def _selection(table: Comparison) -> str:
    rules = {
        ROWS.sub("on training rows", run.record.scores.get("selection", "an unknown rule"))
        for cell in table.cells.values()
        for run in cell.runs
    }
    return "the best evaluation: " + " / ".join(sorted(rules))
