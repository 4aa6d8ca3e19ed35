"""What all formats share: the report, its columns, headings and cells in words."""

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
from molex_cli.compare.loading import Run
from molex_cli.compare.remarks import MARKS, Heading, Note, by_heading, legend
from molex_cli.compare.table import Cell, Comparison, metric_name
from molex_cli.errors import ConfigError, nearest

SCORES, ALL = "scores", "all"  # several columns by one name
NUMERIC = re.compile(r"[-+\u2212–.,\d\s\[\]%e/()±≤≥]*|unknown")
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
    notes: Sequence[Note] = ()
    """Verdicts on hypotheses, confounds, and what was left out."""
    folder: Path | None = None
    """Where the file lies that it is written to; None for the terminal."""
    title: str = ""
    answers: Sequence[str] = ()
    """Sentences that come first."""
    effects: Sequence[Effect] | None = None
    """The differences; None for those of the table."""
    sections: Sequence[Section] = ()
    runs: Sequence[Run] = ()
    """All that were found, those included that tuned or diverged; what some figures draw."""
    diverged: Sequence[Run] = ()
    columns: Sequence[str] = ()
    """Names of the columns that are shown; none leaves it to the format."""
    caption: str = ""
    label: str = ""
    """Of a table that floats, in LaTeX."""
    is_verbose: bool = False
    """Whether a format that leaves out details shows them, too."""

    def differences(self) -> Sequence[Effect]:
        """Return the differences to be shown."""
        return effects_of(self.table) if self.effects is None else self.effects

    def remarks(self) -> dict[Heading, list[Note]]:
        """Return what stands under the table by its heading: the notes, and the legend last."""
        return by_heading([*self.notes, *legend(self.table)])

    def lines(self) -> list[str]:
        """Return the answers, the remarks and the differences as lines, for a format that has one table."""
        remarks = [f"{heading}: {note.text}" for heading, notes in self.remarks().items() for note in notes]
        return [*self.answers, *remarks, *map(sentence, self.differences())]


@dataclass(frozen=True)
class CellText:
    """A cell in words."""

    text: str
    is_best: bool = False
    is_close: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the table of arms."""

    name: str
    """By which it is chosen."""
    heading: str
    cells: Sequence[CellText]
    """In the order of the rows."""


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


def matrix(table: Comparison, names: Sequence[str] = ()) -> tuple[list[str], list[tuple[str, list[CellText]]]]:
    """Return the headings and, for each arm, its name and cells: of all columns, or of those that are named."""
    found = chosen(table, names)
    head = [first_heading(table), *(column.heading for column in found)]
    return head, [(table.name(row), [column.cells[i] for column in found]) for i, row in enumerate(table.rows)]


def first_heading(table: Comparison) -> str:
    """Return what stands over the names of arms."""
    return " ".join(table.row_keys) or "arm"


def chosen(table: Comparison, names: Sequence[str]) -> list[Column]:
    """Return the columns of these names in their order; raise ConfigError for a name that none has.

    `scores` is all scores, `all` every column; so is no name.
    """
    found = {column.name: column for column in columns(table)}
    several = {SCORES: list(table.cols), ALL: list(found)}
    wanted = dict.fromkeys(name for each in names or (ALL,) for name in several.get(each, [each]))
    if unknown := [name for name in wanted if name not in found]:
        known = [*several, *found]
        hint, there = nearest(unknown[0], known), f"choose from {', '.join(known)}"
        way_out = f"{hint} or {there}" if hint.startswith("did you mean") else there
        raise ConfigError(f"--columns must name columns of the table, got {unknown[0]}; {way_out}")
    return [found[name] for name in wanted]


def columns(table: Comparison) -> list[Column]:
    """Return all columns: scores, what stands beside them, costs."""

    def scores(col: str) -> list[CellText]:
        return [cell_text(table.cells.get((row, col))) for row in table.rows]

    def others(value: Callable[[str], str]) -> list[CellText]:
        return [CellText(value(row)) for row in table.rows]

    found = [Column(col, heading(table, col), scores(col)) for col in table.cols]
    found += [Column(name, name, others(value)) for name, value in _beside(table).items()]
    return found + [Column(name, name, others(partial(_cost, table, name))) for name in COSTS]


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


def _cost(table: Comparison, name: str, row: str) -> str:
    mean = _mean(table.runs_of(row), COSTS[name])
    return "–" if math.isnan(mean) else f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"


def facts(table: Comparison) -> list[dict[str, Any]]:
    """Return the statistics and costs of each cell, numbers as they are."""
    return [_facts(table, row, col, cell) for (row, col), cell in table.cells.items()]


def _facts(table: Comparison, row: str, col: str, cell: Cell) -> dict[str, Any]:
    costs = {name.replace("/", "_per_").replace(" ", "_"): _mean(cell.runs, value) for name, value in COSTS.items()}
    return {
        "row": row,
        "name": table.name(row),
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
