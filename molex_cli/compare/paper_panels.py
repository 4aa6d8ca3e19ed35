"""What the line charts of a paper show: scores or losses during training, and scores over a tuned setting."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from molex_cli.compare import courses
from molex_cli.compare.arms import GROUPS, by_label, distinguishing_settings, label, rank_of, shown
from molex_cli.compare.layout import Report
from molex_cli.compare.loading import Run
from molex_cli.compare.paper import MOST_ARMS, Panel, Series
from molex_cli.compare.table import Cell, Comparison, display_name, metric_name
from molex_cli.errors import ConfigError
from molex_cli.metrics.base import Metric

LEARNING_RATE = "train.learning_rate"
LOGARITHMIC = 4  # times the lowest value: from here on values are a multiplication apart


def curves(report: Report) -> list[Panel]:
    """Return for each column its arms' scores during training, or their losses where there is one evaluation."""
    table = report.table
    panels = [panel for col in table.cols if (panel := _curves(table, col))]
    if not panels:
        raise ConfigError(
            "--figure curves must have runs with losses or two evaluations, got none; train.evaluate_every=N evaluates"
        )
    return panels


def _curves(table: Comparison, col: str) -> Panel | None:
    column, gaps = table.column(col), list[str]()
    best = best_rows(column)[:MOST_ARMS]
    rows = [row for row in column if row in best]
    drawn = [_series(table.name(row), courses.scores(table.name(row), column[row], gaps)) for row in rows]
    y = f"{metric_name(table, col)}{_scored_on([run for row in rows for run in column[row].runs])}"
    if not any(len(each.x) > 1 for each in drawn):
        gaps.clear()
        drawn = [_series(table.name(row), courses.losses(table.name(row), column[row], gaps)) for row in rows]
        y = "training loss"
    if not any(len(each.x) > 1 for each in drawn):
        return None
    notes = [f"the {len(rows)} best of {len(column)} arms"] if len(column) > len(rows) else []
    return Panel(col, "step", y, [each for each in drawn if each.x], "; ".join([*notes, *gaps]))


def _series(name: str, course: courses.Course) -> Series:
    return Series(name, list(course), list(course.values()))


def _scored_on(runs: Sequence[Run]) -> str:
    """Return on which rows curves are, where these are not what is compared."""
    if any(map(courses.has_selection, runs)):
        return " on the selection rows"
    return " on validation" if any(run.split for run in runs) else ""


def best_rows(column: Mapping[str, Cell]) -> list[str]:
    """Return the rows of a column, the best first."""
    return sorted(
        column, key=lambda row: -column[row].mean if column[row].metric.higher_is_better else column[row].mean
    )


def rates(report: Report) -> list[Panel]:
    """Return for each column its arms' scores over a setting: the tuned one, one of the rows, or the learning rate."""
    table = report.table
    named = [key for key in table.row_keys if key not in GROUPS]
    key = [*table.tuned, *named, LEARNING_RATE][0]
    found = by_label(report.runs, table.col_keys)
    panels = [_rates(report, col, found[col], key) for col in table.cols]
    if not any(len(panel.ticks or ()) > 1 for panel in panels):
        raise ConfigError(
            f"--figure rates must have runs at two values of {key} at least, got one; --tune KEY draws another setting"
        )
    return panels


def _rates(report: Report, col: str, runs: Sequence[Run], key: str) -> Panel:
    table = report.table
    metric = next(iter(table.column(col).values())).metric
    values = sorted({_value(run, key) for run in runs}, key=rank_of)
    places = dict(zip(values, _places(values), strict=True))
    has_selection = all("selection" in (run.record.evaluated(table.which) or {}) for run in runs)
    arms: dict[str, dict[Any, list[float]]] = {}
    for run, name in zip(runs, _names(table, runs, key), strict=True):
        score = _score(run, table.which, metric, has_selection) * metric.scale
        arms.setdefault(name, {}).setdefault(_value(run, key), []).append(score)
    series = [Series(name, [places[v] for v in values if v in own], [own[v] for v in values if v in own])
              for name, own in arms.items()]  # fmt: skip
    return Panel(
        col,
        key,
        f"{metric_name(table, col)}{' on the selection rows' if has_selection else ''}",
        series[:MOST_ARMS],
        "; ".join([*_more(len(series)), *_diverged(report, col, key)]),
        {place: shown(value) for value, place in places.items()},
    )


def _names(table: Comparison, runs: Sequence[Run], key: str) -> list[str]:
    """Return the names of the runs' arms: those of their rows without the setting that is drawn."""
    rows = [each for each in table.row_keys if each != key]
    distinguishing = distinguishing_settings(runs, rows, table.col_keys, (key, *table.tuned))
    return [display_name(run, label(run, rows, distinguishing, shown), rows) for run in runs]


def _value(run: Run, key: str) -> Any:
    """Return a run's value of a setting; of a learning rate that the method chose, what it was."""
    value = run.setting(key)
    found = run.record.training.get("learning_rate") if value is None and key == LEARNING_RATE else value
    return str(found) if isinstance(found, list | dict) else found


def _score(run: Run, which: str, metric: Metric, has_selection: bool) -> float:
    own = run.record.evaluated(which) or {"scores": {}}
    found = own["selection" if has_selection else "scores"].get(metric.name)
    return metric.undefined if found is None else float(found)


def _places(values: Sequence[Any]) -> list[float]:
    """Return where values are drawn: numbers by size, or its logarithm where they are far apart, others in turn."""
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in values):
        return [float(i) for i in range(len(values))]
    if min(values) > 0 and max(values) >= LOGARITHMIC * min(values):
        return [math.log10(each) for each in values]
    return [float(each) for each in values]


def _more(arms: int) -> list[str]:
    return [f"{MOST_ARMS} of {arms} arms"] if arms > MOST_ARMS else []


def _diverged(report: Report, col: str, key: str) -> list[str]:
    """Return at which values training failed."""
    own = [run for run in report.diverged if label(run, report.table.col_keys) == col]
    values = sorted({_value(run, key) for run in own}, key=rank_of)
    runs = f"{len(own)} run{'' if len(own) == 1 else 's'}"
    return [f"diverged: {runs}, at {', '.join(map(shown, values))}"] if own else []
