"""Runs to cells: means over seeds, the best of each column, and what is not significantly different from it."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molex_cli.compare.loading import Run
from molex_cli.errors import ConfigError, nearest
from molex_cli.metrics.base import Metric, metric_named
from molex_cli.records import NOT_IN_VARIANT, NUMBER_FORMATS, flat
from molex_cli.statistics import paired

ADJUSTMENTS = {"Holm": paired.holm, "Benjamini-Hochberg": paired.benjamini_hochberg}
PROVISIONAL = 3  # fewer seeds than this
ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """How one arm differs from another, on the seeds and examples that both have."""

    seeds: list[int]
    interval: paired.Interval
    """Of the mean difference, and its p."""
    over: str
    """What the interval holds for: seeds, seeds and examples, or the examples of one seed."""
    permutation: float
    """p of the exact paired permutation test over seeds; it cannot be below 2 / 2**seeds."""
    mcnemar: float | None
    """p of McNemar's exact test over the examples that only one arm gets right at most seeds."""
    detectable: float
    """Smallest difference that so many seeds would find with 80 % power."""
    needed: int | None
    """Seeds that would find the difference that was seen, with 80 % power; None where seeds alone would not."""
    adjusted: float = math.nan
    """The interval's p, adjusted for all tests of the table."""


@dataclass
class Cell:
    """The runs of one arm in one column."""

    runs: list[Run]
    metric: Metric
    which: str
    is_best: bool = False
    is_close: bool = False
    """Whether it is not significantly different from the best of its column."""
    difference: Difference | None = None
    """From the best of the column, or from the arm that all are compared with."""

    def run_of(self, seed: int) -> Run:
        """Return the run of a seed."""
        return next(run for run in self.runs if run.record.seed == seed)

    @cached_property
    def by_seed(self) -> dict[int, float]:
        """Return the score of each seed; undefined ones are left out."""
        found = {run.record.seed: run.score(self.which, self.metric.name) for run in self.runs}
        return {seed: score for seed, score in sorted(found.items()) if score is not None}

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
            "provisional": len(self.by_seed) < PROVISIONAL,
            "degenerate": any(run.record.degenerate for run in self.runs),
            "undefined": len(self.by_seed) < len(self.runs),
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

    def column(self, col: str) -> dict[str, Cell]:
        """Return the cells of a column by row."""
        return {row: self.cells[row, col] for row in self.rows if (row, col) in self.cells}

    def runs_of(self, row: str) -> list[Run]:
        """Return all runs of an arm."""
        return [run for (each, _), cell in self.cells.items() if each == row for run in cell.runs]


def compare(
    runs: Sequence[Run],
    rows: Sequence[str],
    cols: Sequence[str],
    which: str,
    against: str | None = None,
    adjust: str = "Holm",
) -> Comparison:
    """Return the table; raise ConfigError where a key or the arm to compare with is unknown."""
    metrics = {col: _metric(col, group) for col, group in _grouped(runs, cols).items()}
    extra = _told_apart(runs, rows, cols)
    cells: dict[tuple[str, str], Cell] = {}
    display: dict[str, str] = {}
    for run in runs:
        row, col = _label(run, rows, extra), _label(run, cols)
        cells.setdefault((row, col), Cell([], metrics[col], which)).runs.append(run)
        name = run.record.display.get("method", "")
        display[row] = row.replace(str(run.setting("method")), name, 1) if "method" in rows and name else row
    labels = _unique(row for row, _ in cells), _unique(col for _, col in cells)
    found = Comparison(list(rows), list(cols), *labels, cells, which, against, display, adjust)
    if against is not None and against not in found.rows:
        raise ConfigError(f"--against must be one of the rows, got {against}; {nearest(against, found.rows)}")
    _judge(found)
    return found


def _judge(table: Comparison) -> None:
    """Find the best of each column, compare every other arm with it (or with `against`), adjust, and mark.

    The best is chosen by the same runs, so its family is every pair of arms of a column.
    """
    tested: list[Cell] = []
    family = 0
    for col in table.cols:
        column = {row: cell for row, cell in table.column(col).items() if not math.isnan(cell.mean)}
        if not column:
            continue
        best = _best(column)
        column[best].is_best = True
        base = column.get(table.against) if table.against else column[best]
        family += len(column) - 1 if table.against else len(column) * (len(column) - 1) // 2
        for cell in column.values():
            if base is not None and cell is not base:
                cell.difference = difference(cell, base)
                tested.append(cell)
    p_values = [cell.difference.interval.p for cell in tested if cell.difference]
    adjusted = ADJUSTMENTS[table.adjust](p_values, family)
    for cell, p in zip(tested, adjusted, strict=True):
        assert cell.difference is not None
        cell.difference = replace(cell.difference, adjusted=p)
        cell.is_close = table.against is None and not p < ALPHA


def _best(column: dict[str, Cell]) -> str:
    """Return the row of the highest mean (lowest, where low is better); a degenerate one only if there is no other."""

    def rank(row: str) -> tuple[bool, float]:
        sign = 1 if column[row].metric.higher_is_better else -1
        return "degenerate" not in column[row].notes, sign * column[row].mean

    return max(column, key=rank)


def difference(one: Cell, other: Cell) -> Difference:
    """Return how `one` differs from `other` on what both have."""
    seeds = sorted(set(one.by_seed) & set(other.by_seed))
    by_seed = [one.by_seed[seed] - other.by_seed[seed] for seed in seeds]
    interval, over = _interval(by_seed, _by_example(one, other, seeds))
    return Difference(
        seeds=seeds,
        interval=interval,
        over=over,
        permutation=paired.sign_permutation(by_seed),
        mcnemar=_mcnemar(one, other, seeds),
        detectable=paired.detectable_effect(interval),
        needed=paired.seeds_needed(interval, len(seeds)),
    )


def _interval(by_seed: Sequence[float], table: NDArray[np.float64] | None) -> tuple[paired.Interval, str]:
    """Return the interval of a difference, and over what it holds; of one seed it has no p, for there may be others."""
    if table is None:
        return paired.seed_interval(by_seed), "seeds"
    if len(by_seed) > 1:
        return paired.crossed_interval(table), "seeds and examples"
    return replace(paired.example_interval(table[0]), p=1.0), "examples of one seed"


def _by_example(one: Cell, other: Cell, seeds: Sequence[int]) -> NDArray[np.float64] | None:
    """Return the differences [seeds, examples]; None where the score is no mean over known examples, or they differ."""
    name = one.metric.name
    pairs = _pairs(one, other, seeds, lambda run: run.values(one.which, name))
    for seed, pair in zip(seeds, pairs or [], strict=bool(pairs)):
        if not np.allclose([values.mean() for values in pair], [one.by_seed[seed], other.by_seed[seed]], atol=1e-6):
            return None
    return np.stack([first - second for first, second in pairs]) if pairs else None


def _mcnemar(one: Cell, other: Cell, seeds: Sequence[int]) -> float | None:
    pairs = _pairs(one, other, seeds, lambda run: run.correctness(one.which))
    if not pairs:
        return None
    first, second = (np.mean(each, axis=0) > 0.5 for each in zip(*pairs, strict=True))
    return paired.mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))


def _pairs(
    one: Cell, other: Cell, seeds: Sequence[int], known: Callable[[Run], tuple[str, NDArray[np.float64]] | None]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]] | None:
    """Return what is known of each example in both arms, by seed; None if it is not, or examples differ."""
    found = []
    for seed in seeds:
        first, second = (known(cell.run_of(seed)) for cell in (one, other))
        if first is None or second is None or first[0] != second[0]:
            return None
        found.append((first[1], second[1]))
    return found


def _metric(col: str, runs: Sequence[Run]) -> Metric:
    names = {run.record.scores["metric"] for run in runs}
    if len(names) > 1:
        raise ConfigError(f"a column must have one metric, got {', '.join(sorted(names))} in {col}; add --cols task")
    return metric_named(names.pop())


def _told_apart(runs: Sequence[Run], rows: Sequence[str], cols: Sequence[str]) -> dict[str, list[str]]:
    """Return for each row label the settings in which its runs differ within a column: they are no seeds of one arm."""
    found: dict[str, set[str]] = {}
    for (row, _), group in _grouped_twice(runs, rows, cols).items():
        settings = [defining(run) for run in group]
        keys = differing(settings)
        if keys:
            named = [key for key in keys if key != VARIANT]
            found.setdefault(row, set()).update(named or keys)
    return {row: sorted(keys) for row, keys in found.items()}


def defining(run: Run) -> dict[str, Any]:
    """Return the settings that define the run's arm, by full key: also of the hardware what changes numbers."""
    settings = {key: value for key, value in run.record.settings.items() if key not in NOT_IN_VARIANT}
    hardware = run.record.settings["hardware"]
    formats = {f"hardware.{name}": hardware.get(name) for name in NUMBER_FORMATS}
    return {**flat(settings), **formats, VARIANT: run.record.variant}


def differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Return the keys whose values are not all the same."""
    keys = _unique(key for each in settings for key in each)
    return [key for key in keys if len({repr(each[key]) if key in each else "" for each in settings}) > 1]


def _label(run: Run, keys: Sequence[str], extra: dict[str, list[str]] | None = None) -> str:
    label = " ".join(str(run.setting(key)) if key in GROUPS else f"{key}={run.setting(key)}" for key in keys) or "all"
    told = (extra or {}).get(label, [])
    values = defining(run) if told else {}
    named = ", ".join(f"{key}={values.get(key, 'unset')}" for key in told)
    return f"{label} ({named})" if told else label


GROUPS = ("method", "model", "task")
VARIANT = "variant"


def _grouped(runs: Sequence[Run], keys: Sequence[str]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(_label(run, keys), []).append(run)
    return found


def _grouped_twice(runs: Sequence[Run], rows: Sequence[str], cols: Sequence[str]) -> dict[tuple[str, str], list[Run]]:
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((_label(run, rows), _label(run, cols)), []).append(run)
    return found


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
