"""What all formats share: the report, headings, cells in words, and the legend."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from molex_cli.compare import tuned_values
from molex_cli.compare.collapse import counted
from molex_cli.compare.effects import Effect, sentence
from molex_cli.compare.effects import effects as effects_of
from molex_cli.compare.judging import ALPHA
from molex_cli.compare.loading import Run
from molex_cli.compare.table import Cell, Comparison, metric_name
from molex_cli.statistics.intervals import LEAST_SEEDS

MARKS = {"provisional": "°", "degenerate": "†", "collapsed": "‡", "published variant": "ᵖ"}
MEANING = {
    "°": "provisional: fewer than 3 seeds, which have no p",
    "†": "degenerate: a run predicts a constant, has an undefined score or failed a self-check",
    "‡": "a seed collapsed: its score is no better than a constant prediction's, or undefined, and counts as that",
    "ᵖ": "reproduces a published implementation, quirks included",
}
NUMERIC = re.compile(r"[-+\u2212–.,\d\s\[\]%e/()±≤≥]*|unknown")
ROWS = re.compile(r"on [\d,]+ training rows")  # how many differs from task to task
BOUND = "how many may at most (one-sided 95 %)"
VARIANCES = {"pair": "each pair's own", "pooled": "pooled over all arms, or a pair's own where that is larger"}
CENTRES: dict[str, Callable[[Cell], float]] = {
    "median": lambda cell: cell.median,
    "trained": lambda cell: cell.trained_mean,
}
"""What may stand beside the mean, by its name."""
COSTS: dict[str, Callable[[Run], float | None]] = {
    "trainable": lambda run: run.record.parameters.get("trainable"),
    "added": lambda run: run.record.parameters.get("added"),
    "routers": lambda run: sum(run.record.parameters.get(part, 0) for part in ("routers", "gates")) or None,
    "head": lambda run: run.record.parameters.get("head"),
    "MFLOPs/token": lambda run: (run.record.flops_per_token.get("active") or math.nan) / 1e6,
    "tokens/s": lambda run: run.record.training.get("tokens_per_second"),
    "peak MB": lambda run: max(run.record.memory_bytes.values(), default=math.nan) / 1e6,
}


@dataclass(frozen=True)
class Section:
    """A further table of a report, all of it text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    is_on_page: bool = True
    """Whether the page shows it; what it has anyway it shows once."""

    def numeric(self) -> list[bool]:
        """Return for each column whether its cells are numbers, which are set flush right."""
        return [all(NUMERIC.fullmatch(row[i]) for row in self.rows) for i in range(len(self.head))]


@dataclass(frozen=True)
class Report:
    """What a format writes."""

    table: Comparison
    notes: Sequence[str] = ()
    """Verdicts on hypotheses and confounds."""
    folder: Path | None = None
    """Where the file lies that it is written to; None for the terminal."""
    title: str = ""
    answers: Sequence[str] = ()
    """Sentences that come first."""
    effects: Sequence[Effect] | None = None
    """The differences; None for those of the table."""
    sections: Sequence[Section] = ()

    def differences(self) -> Sequence[Effect]:
        """Return the differences to be shown."""
        return effects_of(self.table) if self.effects is None else self.effects

    def remarks(self) -> list[str]:
        """Return the lines under the table: its legend, and the notes."""
        return [*legend(self.table), *self.notes]

    def lines(self) -> list[str]:
        """Return the answers, the remarks and the differences as lines, for a format that has one table."""
        return [*self.answers, *self.remarks(), *map(sentence, self.differences())]


@dataclass(frozen=True)
class CellText:
    """A cell in words."""

    text: str
    is_best: bool = False
    is_close: bool = False


def heading(table: Comparison, col: str) -> str:
    """Return a column's name with its metric, unit and direction."""
    metric = next(iter(table.column(col).values())).metric
    return f"{col} {metric_name(table, col)} {'↑' if metric.higher_is_better else '↓'}"


def cell_text(cell: Cell | None) -> CellText:
    """Return mean, standard deviation and number of seeds, with marks."""
    if cell is None:
        return CellText("–")
    if math.isnan(cell.mean):
        return CellText("undefined" + _marks(cell))
    times = cell.metric.scale
    spread = "" if math.isnan(cell.deviation) else f" ± {cell.deviation * times:.2f}"
    return CellText(f"{cell.mean * times:.2f}{spread} ({len(cell.by_seed)}){_marks(cell)}", cell.is_best, cell.is_close)


def _marks(cell: Cell) -> str:
    return "".join(MARKS[note] for note in cell.notes)


def matrix(table: Comparison) -> tuple[list[str], list[tuple[str, list[CellText]]]]:
    """Return the headings and, for each arm, its name and cells: scores, what stands beside them, costs."""
    beside = _beside(table)
    head = [" ".join(table.row_keys) or "arm", *(heading(table, col) for col in table.cols), *beside, *COSTS]
    lines = []
    for row in table.rows:
        cells = [cell_text(table.cells.get((row, col))) for col in table.cols]
        cells += [CellText(value(row)) for value in beside.values()]
        lines.append((table.display.get(row, row), [*cells, *(CellText(_cost(table, row, name)) for name in COSTS)]))
    return head, lines


def _beside(table: Comparison) -> dict[str, Callable[[str], str]]:
    """Return the columns beside the scores: what each shows of a row."""

    def statistic(name: str, col: str, row: str) -> str:
        cell = table.cells.get((row, col))
        value = math.nan if cell is None else CENTRES[name](cell) * cell.metric.scale
        return "–" if math.isnan(value) else f"{value:.2f}"

    shown: dict[str, Callable[[str], str]] = {
        f"{col} {name}": partial(statistic, name, col) for name in table.show for col in table.cols
    }
    shown["collapsed"] = lambda row: counted([table.cells.get((row, col)) for col in table.cols])
    shown |= tuned_values.columns(table)
    if table.which == "best":
        shown["evaluations"] = lambda row: _candidates(table.cells_of(row))
    return shown


def _candidates(cells: Sequence[Cell]) -> str:
    """Return among how many evaluations the best of a run was chosen."""
    counts = {run.record.scores.get("evaluations") or 0 for cell in cells for run in cell.runs}
    return "/".join(str(count or "?") for count in sorted(counts))


def _cost(table: Comparison, row: str, name: str) -> str:
    mean = _mean(table.runs_of(row), COSTS[name])
    return "–" if math.isnan(mean) else f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"


def legend(table: Comparison) -> list[str]:
    """Return which scores are shown, how they were tested, and what the marks mean."""
    rule = "the last evaluation" if table.which == "last" else _selection(table)
    used = {note for cell in table.cells.values() for note in cell.notes}
    lines = [f"scores of {rule}; mean ± standard deviation over seeds (number of seeds)"]
    lines += _tests(table) if table.is_judged else []
    unknown = "; ?: the records do not tell" if any(not cell.tells_collapses for cell in table.cells.values()) else ""
    each = f" ({', '.join(table.cols)})" if len(table.cols) > 1 else ""
    lines.append(f"collapsed: seeds that learned nothing, of all{each}, and {BOUND}{unknown}")
    if "trained" in table.show:
        lines.append("trained: mean over the seeds that did not collapse")
    lines += tuned_values.lines(table)
    lines += [f"variance over seeds: {each}" for each in _variances(table)]
    return [*lines, *(f"{mark} {MEANING[mark]}" for note, mark in MARKS.items() if note in used)]


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


def facts(table: Comparison) -> list[dict[str, Any]]:
    """Return the statistics and costs of each cell, numbers as they are."""
    return [_facts(table, row, col, cell) for (row, col), cell in table.cells.items()]


def _facts(table: Comparison, row: str, col: str, cell: Cell) -> dict[str, Any]:
    costs = {name.replace("/", "_per_").replace(" ", "_"): _mean(cell.runs, value) for name, value in COSTS.items()}
    return {
        "row": row,
        "name": table.display.get(row, row),
        "col": col,
        "metric": cell.metric.name,
        "positive": cell.positive,
        "mean": cell.mean,
        "sd": cell.deviation,
        "n": len(cell.by_seed),
        "median": cell.median,
        "mean_of_trained": cell.trained_mean,
        "collapsed": len(cell.collapsed) if cell.tells_collapses else math.nan,
        "collapsed_at_most": cell.most_collapses,
        "best": cell.is_best,
        "not_significantly_different_from_best": cell.is_close,
        "undecided": cell.difference.undecided if cell.difference else "",
        "evaluations": _mean(cell.runs, lambda run: run.record.scores.get("evaluations")),
        "notes": "; ".join(cell.notes),
        **tuned_values.facts(cell.tuned),
        **costs,
    }


def _mean(runs: Sequence[Run], value: Callable[[Run], float | None]) -> float:
    known = [found for run in runs if (found := value(run)) is not None]
    return sum(known) / len(known) if known else math.nan
