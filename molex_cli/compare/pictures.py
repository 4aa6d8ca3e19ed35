"""The pictures of a comparison: scores during training, scores against costs, and what the experts did."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from molex_cli.compare import courses, forest, plots
from molex_cli.compare.effects import Effect
from molex_cli.compare.heat_map import heat_map, usage_map
from molex_cli.compare.loading import Run
from molex_cli.compare.table import Cell, Comparison, metric_name
from molex_cli.errors import MolexError, RecordError
from molex_cli.methods.base import low_rank_scale
from molex_cli.metrics.base import Metric
from molex_cli.records import read_record
from molex_cli.records.run_folder import adapter_name
from molex_cli.statistics import expert_similarity

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure with its caption and the names of its colours."""

    caption: str
    figure: "Figure"
    names: Sequence[str] = ()


MIXED = "; on the selection rows where a run has some, else on validation"
FOREST = (4.2, 8.0)  # width in inches and size of text in points: it can be read on a phone
MOST_MAPS = 12  # arms whose experts are drawn: each heat map takes a third of a second and up to 30 kB


def look(number: int) -> tuple[int, int]:
    """Return the colour and the style of a series: when the colours are used up, the next style begins."""
    return number % len(plots.COLOURS), number // len(plots.COLOURS)


def curves(table: Comparison) -> Iterator[Picture]:
    """Yield for each column the scores of its arms during training, of many arms those of the best.

    A run that is not drawn, or not at every step, is named.
    """
    for col in table.cols:
        column, gaps = table.column(col), list[str]()
        best = set(_ranked(column)[: plots.LOOKS])
        shown = [row for row in column if row in best]
        lines = [line for row in shown if (line := _curve(table.name(row), column[row], gaps))]
        if lines:
            only = f"; the {len(best)} best of {len(column)} arms" if len(column) > len(best) else ""
            styled = [_styled(line, number) for number, line in enumerate(lines)]
            figure = plots.line_chart(
                "",
                styled,
                x="step",
                y=metric_name(table, col),
                legend=False,
                limits=limits_of(_metric(table, col)),
                from_zero=True,
            )
            on = _scored_on([run for row in shown for run in column[row].runs])
            caption = f"{col}: mean, and from the worst to the best seed{only}{on}"
            yield Picture("; ".join([caption, *gaps]), figure, [line.name for line in lines])


def _ranked(column: Mapping[str, Cell]) -> list[str]:
    """Return the rows of a column, the best first."""

    def rank(row: str) -> float:
        mean = column[row].mean
        return math.inf if math.isnan(mean) else -mean if column[row].metric.higher_is_better else mean

    return sorted(column, key=rank)


def _curve(name: str, cell: Cell, gaps: list[str]) -> plots.Line | None:
    """Return the mean over seeds at each step, between the worst and the best; None without evaluations."""
    by_step = courses.scores(name, cell, gaps)
    if not by_step:
        return None
    values = list(by_step.values())
    means = [sum(each) / len(each) for each in values]
    return plots.Line(name, list(by_step), means, list(map(min, values)), list(map(max, values)))


def _scored_on(runs: Sequence[Run]) -> str:
    """Return on which rows curves are, where that is not what the table shows."""
    selects = {courses.has_selection(run) for run in runs}
    if True not in selects:
        return "; on validation" if any(run.split for run in runs) else ""
    return "; on the selection rows" if len(selects) == 1 else MIXED


def limits_of(metric: Metric) -> tuple[float, float]:
    """Return the least and the greatest value of a metric, as it is shown."""
    return metric.low * metric.scale, metric.high * metric.scale


def _styled(line: plots.Line, number: int) -> plots.Line:
    colour, style = look(number)
    return replace(line, colour=colour, style=style)


def differences(effects: Sequence[Effect]) -> Iterator[Picture]:
    """Yield a forest plot, if there is a difference to be drawn."""
    if forest.drawn(effects):
        caption = "Differences and 95 % intervals; an arrow: further than drawn, or unknown"
        yield Picture(caption, forest.forest(effects, *FOREST))


def costs(table: Comparison) -> Iterator[Picture]:
    """Yield for each column and cost the scores of its arms against it."""
    known = (("trainable parameters", _trainable, True), ("seconds of training", _seconds, False))
    for col in table.cols:
        for cost, value, logarithmic in known:
            better = _metric(table, col).higher_is_better
            points, others = _told_apart(_points(table, col, value), better)
            if points:
                figure = plots.scatter(
                    "",
                    points,
                    others,
                    x=cost,
                    y=metric_name(table, col),
                    logarithmic=logarithmic,
                    higher_is_better=better,
                    limits=limits_of(_metric(table, col)),
                )
                only = f"; {len(others)} other arms in grey" if others else ""
                missing = len(table.column(col)) - len(points) - len(others)
                unknown = (
                    f"; not drawn: {missing} arm{'s' if missing > 1 else ''} without a score or without {cost}"
                    if missing
                    else ""
                )
                caption = f"{col}: score against {cost}, ± standard deviation over seeds{only}{unknown}"
                yield Picture(caption, figure, [point.name for point in points])


def _told_apart(points: list[plots.Point], higher_is_better: bool) -> tuple[list[plots.Point], list[plots.Point]]:
    """Return as many points as can be told apart, of many those of the front and the best, and the others."""
    front = plots.front(points, higher_is_better=higher_is_better) if len(points) > plots.LOOKS else []
    sign = -1 if higher_is_better else 1
    named = sorted(points, key=lambda point: (point not in front, sign * point.y))[: plots.LOOKS]
    return [point for point in points if point in named], [point for point in points if point not in named]


def _trainable(run: Run) -> float | None:
    return run.record.parameters.get("trainable") or None


def _seconds(run: Run) -> float | None:
    return run.record.training.get("seconds")


def _points(table: Comparison, col: str, cost: Callable[[Run], float | None]) -> list[plots.Point]:
    found = []
    for row, cell in table.column(col).items():
        known = [value for run in cell.runs if (value := cost(run))]
        if known and not math.isnan(cell.mean):
            times = cell.metric.scale
            spread = 0.0 if math.isnan(cell.deviation) else cell.deviation
            least, most = limits_of(cell.metric)
            low, high = max(least, (cell.mean - spread) * times), min(most, (cell.mean + spread) * times)
            found.append(plots.Point(table.name(row), sum(known) / len(known), cell.mean * times, low, high))
    return found


def _metric(table: Comparison, col: str) -> Metric:
    return next(iter(table.column(col).values())).metric


def experts(table: Comparison) -> Iterator[Picture]:
    """Yield how much each expert of each layer was used in an arm's first run, and how far apart the experts are."""
    arms = (_experts(table, row) for row in _best_first(table))
    for pictures in islice((found for each in arms if (found := list(each))), MOST_MAPS):
        yield from pictures


def _best_first(table: Comparison) -> list[str]:
    """Return all rows, in their order or, if they are many, by the best place that each has in a column."""
    if len(table.rows) <= MOST_MAPS:
        return table.rows
    places: dict[str, int] = {}
    for col in table.cols:
        for place, row in enumerate(_ranked(table.column(col))):
            places[row] = min(place, places.get(row, place))
    return sorted(table.rows, key=lambda row: places[row])


def _experts(table: Comparison, row: str) -> Iterator[Picture]:
    run = table.runs_of(row)[0]
    arm = f"{table.name(row)}, seed {run.record.seed}"
    try:
        routing = read_record(run.folder).routing
    except RecordError:
        return
    if routing:
        layers = [f"layer {layer}" for layer in routing]
        usage = [[math.nan if x is None else x for x in use.get("usage", [])] for use in routing.values()]
        yield Picture(f"{arm}: use of the experts", usage_map("", layers, usage))
        yield from _expert_distances(run, table.which, arm)


def _expert_distances(run: Run, which: str, arm: str) -> Iterator[Picture]:
    """Yield how far apart the experts of each layer and linear are; nothing for a run without an adapter of experts."""
    try:
        factors = expert_similarity.of_run(run.folder / adapter_name(which), low_rank_scale)
    except MolexError:
        return
    layers, linears, values = expert_similarity.table(factors, "distance")
    figure = heat_map("", layers, values.tolist(), columns="linear", names=linears, scale="distance")
    yield Picture(f"{arm}: mean distance between two experts", figure)
