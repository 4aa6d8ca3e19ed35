"""Runs to cells: means over seeds, the best of each column, and what is not significantly different from it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from molex_cli.compare.arms import by_label, distinguishing_settings, in_order, label, shown
from molex_cli.compare.collapse import has_collapsed
from molex_cli.compare.differences import Difference
from molex_cli.compare.judging import judge
from molex_cli.compare.loading import Run
from molex_cli.compare.tuning import NOTHING, Tuned, Tuning
from molex_cli.errors import ConfigError, nearest
from molex_cli.metrics.base import Metric, scored_class
from molex_cli.statistics.collapse import most_collapses
from molex_cli.statistics.intervals import LEAST_SEEDS


@dataclass
class Cell:
    """The runs of one arm in one column."""

    runs: list[Run]
    metric: Metric
    positive: str | None
    """The class that the metric scores, where it scores one and the records tell which."""
    which: str
    is_best: bool = False
    is_close: bool = False
    """Whether it was tested and is not significantly different from the best of its column."""
    compared_with: str = ""
    """The row that `difference` is from."""
    difference: Difference | None = None
    """From the best of the column, or from the arm that all are compared with."""
    tuned: Tuned | None = None
    """What other runs chose for these."""

    def run_of(self, seed: int) -> Run:
        """Return the run of a seed."""
        return next(run for run in self.runs if run.record.seed == seed)

    @cached_property
    def by_seed(self) -> dict[int, float]:
        """Return the score of each seed; one that is undefined counts as a constant prediction does by convention."""
        found = {run.record.seed: run.score(self.which, self.metric.name) for run in self.runs}
        return {seed: self.metric.undefined if score is None else score for seed, score in sorted(found.items())}

    @cached_property
    def collapsed(self) -> list[int]:
        """Return the seeds that learned nothing, as far as the records tell."""
        return sorted(seed for seed, found in self._collapses.items() if found)

    @property
    def tells_collapses(self) -> bool:
        """Return whether the records tell of every seed."""
        return None not in self._collapses.values()

    @property
    def most_collapses(self) -> float:
        """Return the share of seeds that may collapse at most; NaN where the records do not tell."""
        return most_collapses(len(self.collapsed), len(self.by_seed)) if self.tells_collapses else math.nan

    @cached_property
    def _collapses(self) -> dict[int, bool | None]:
        return {run.record.seed: has_collapsed(run, self.which, self.metric) for run in self.runs}

    @property
    def trained_mean(self) -> float:
        """Return the mean over the seeds that did not collapse; NaN if all did."""
        values = [score for seed, score in self.by_seed.items() if seed not in self.collapsed]
        return sum(values) / len(values) if values else math.nan

    @property
    def median(self) -> float:
        """Return the median over seeds."""
        return float(np.median(list(self.by_seed.values())))

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        values = list(self.by_seed.values())
        return sum(values) / len(values) if values else math.nan

    @property
    def deviation(self) -> float:
        """Return the standard deviation over seeds (n - 1); NaN for one seed."""
        values = list(self.by_seed.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    @property
    def notes(self) -> list[str]:
        """Return what a reader must know of the cell."""
        facts = {
            "provisional": len(self.by_seed) < LEAST_SEEDS,
            "degenerate": any(run.record.degenerate for run in self.runs),
            "collapsed": bool(self.collapsed),
            "published variant": any(run.record.settings["method"].get("published") for run in self.runs),
        }
        return [name for name, holds in facts.items() if holds]


@dataclass
class Comparison:
    """A table of arms."""

    row_keys: list[str]
    col_keys: list[str]
    rows: list[str]
    cols: list[str]
    cells: dict[tuple[str, str], Cell]
    which: str
    against: str | None
    display: dict[str, str] = field(default_factory=dict)
    """Names of rows for people."""
    adjust: str = "Holm"
    """How the p-values are adjusted for their family."""
    detect: float | None = None
    """The difference, as it is shown, for which the seeds that it takes are told."""
    show: Sequence[str] = ()
    """What stands beside the means, of `layout.CENTRES`."""
    studied: Sequence[str] = ()
    """Settings besides `row_keys` in which arms are meant to differ."""
    is_judged: bool = True
    """Whether `judge` compared the arms; a study's race does so itself."""
    tuned: Sequence[str] = ()
    """Settings that each arm has tuned values of."""

    def name(self, row: str) -> str:
        """Return a row's name for people."""
        return self.display.get(row, row)

    def column(self, col: str) -> dict[str, Cell]:
        """Return the cells of a column by row."""
        return {row: self.cells[row, col] for row in self.rows if (row, col) in self.cells}

    def cells_of(self, row: str) -> list[Cell]:
        """Return the cells of an arm."""
        return [self.cells[row, col] for col in self.cols if (row, col) in self.cells]

    def runs_of(self, row: str) -> list[Run]:
        """Return all runs of an arm."""
        return self._by_row[row]

    @cached_property
    def _by_row(self) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {row: [] for row in self.rows}
        for (row, _), cell in self.cells.items():
            found[row] += cell.runs
        return found


def compare(
    runs: Sequence[Run],
    rows: Sequence[str],
    cols: Sequence[str],
    which: str,
    against: str | None = None,
    adjust: str = "Holm",
    detect: float | None = None,
    tuning: Tuning = NOTHING,
) -> Comparison:
    """Return the table; raise ConfigError where a key or the arm to compare with is unknown.

    With tuning, the runs of its seeds choose for their arm which of the others the table holds.
    """
    if tuning.settings:
        tuning.require_possible(runs, [*rows, *cols])
    metrics = {col: _metric(col, in_col) for col, in_col in by_label(runs, cols).items()}
    runs = [*runs, *(run for run in tuning.failures if label(run, cols) in metrics)]
    distinguishing = distinguishing_settings(runs, rows, cols, tuning.settings)
    cells: dict[tuple[str, str], Cell] = {}
    display: dict[str, str] = {}
    for run in runs:
        row, col = label(run, rows, distinguishing), label(run, cols)
        cells.setdefault(
            (row, col), Cell([], metrics[col], run.record.evaluation.get("positive"), which=which)
        ).runs.append(run)
        display[row] = display_name(run, label(run, rows, distinguishing, shown), rows)
    for (row, col), cell in cells.items() if tuning.settings else ():
        cell.runs, cell.tuned = tuning.reported(cell.runs, which, f"{row} in {col}")
    first = {row: next(cell.runs[0] for (own, _), cell in cells.items() if own == row) for row, _ in cells}
    labels = in_order(first, rows, distinguishing), list(dict.fromkeys(col for _, col in cells))
    display = _distinct(display)
    against = _row(against, labels[0], display)
    found = Comparison(
        list(rows), list(cols), *labels, cells, which, against, display, adjust, detect, tuned=tuning.settings
    )
    judge(found)
    return found


def _distinct(display: Mapping[str, str]) -> dict[str, str]:
    """Return the names of rows for people; of rows that would have the same, what distinguishes them."""
    counts = Counter(display.values())
    return {row: name if counts[name] == 1 else row for row, name in display.items()}


def _row(wanted: str | None, rows: Sequence[str], display: Mapping[str, str]) -> str | None:
    """Return the row that is meant by its name, or by its name for people."""
    by_name = {**{name: row for row, name in display.items()}, **{row: row for row in rows}}
    if wanted is not None and wanted not in by_name:
        raise ConfigError(f"--against must be one of the rows, got {wanted}; {nearest(wanted, rows)}")
    return None if wanted is None else by_name[wanted]


def metric_name(table: Comparison, col: str) -> str:
    """Return the name of a column's metric, with the class that it scores, if it scores one, and its unit."""
    cells = list(table.column(col).values())
    unit = " %" if cells[0].metric.scale == 100 else ""
    classes = {cell.positive for cell in cells} - {None}  # runs of before do not tell theirs
    return f"{scored_class(cells[0].metric.name, classes.pop() if len(classes) == 1 else None)}{unit}"


def _metric(col: str, runs: Sequence[Run]) -> Metric:
    found = {run.metric().name: run.metric() for run in runs}
    if len(found) > 1:
        raise ConfigError(
            f"a column must have one metric, got {', '.join(sorted(found))} in {col}; add --cols task,task.metrics"
        )
    ((name, metric),) = found.items()
    if len({run.metric().higher_is_better for run in runs}) > 1:
        raise ConfigError(f"a column must have one best, got runs of which a higher and a lower {name} is in {col}")
    return metric


def display_name(run: Run, row: str, keys: Sequence[str]) -> str:
    """Return a row's name for people: with the method's display name instead of its name."""
    name = run.record.display.get("method", "")
    return row.replace(str(run.setting("method")), name, 1) if "method" in keys and name else row
