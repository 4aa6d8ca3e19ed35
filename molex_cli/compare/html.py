"""A comparison as one page that needs nothing but a browser: no server, no network, no other file."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import quote

from molex_cli.compare import formats, plots, svg
from molex_cli.compare.loading import Run
from molex_cli.compare.table import Cell, Comparison
from molex_cli.errors import MolexError, RecordError
from molex_cli.metrics.base import Metric
from molex_cli.records import lines_of, read_record
from molex_cli.statistics import expert_similarity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.html")
KEY_STYLES = ("solid", "dashed", "dotted")  # of CSS, as plots.STYLES


def page(table: Comparison, notes: Sequence[str], beside: Path) -> str:
    """Return the page; links to runs are relative to the folder that it will lie in."""
    under = [*formats.legend(table), *formats.differences(table), *notes]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        table=_table(table),
        notes="".join(f"<li>{escape(note)}</li>" for note in under),
        curves=_figures("curve", _curves(table)),
        costs=_figures("cost", _costs(table)),
        experts=_figures("experts", _experts(table)) or "<p>No arm has experts.</p>",
        runs=_runs(table, beside),
    )


@dataclass(frozen=True)
class _Picture:
    """A figure with its caption and the names of its colours."""

    caption: str
    figure: "Figure"
    names: Sequence[str] = ()


def _figures(section: str, pictures: Iterable[_Picture]) -> str:
    """Return the figures of a section of the page, whose name makes their ids unique."""
    return "".join(_figure(f"{section}{number}-", picture) for number, picture in enumerate(pictures))


def _figure(prefix: str, picture: _Picture) -> str:
    drawn = svg.inline(picture.figure, picture.caption, prefix)
    keys = "".join(f"<li>{_key(number)}{escape(name)}</li>" for number, name in enumerate(picture.names))
    key = f'<ul class="key">{keys}</ul>' if keys else ""
    return f"<figure><figcaption>{escape(picture.caption)}</figcaption>{drawn}{key}</figure>"


def _key(number: int) -> str:
    """Return a short line as the chart draws the series of a number."""
    colour, style = _look(number)
    return f'<span style="border-top: 3px {KEY_STYLES[style % len(KEY_STYLES)]} var(--c{colour})"></span>'


def _look(number: int) -> tuple[int, int]:
    """Return the colour and the style of a series: when the colours are used up, the next style begins."""
    return number % len(plots.COLOURS), number // len(plots.COLOURS)


def _table(table: Comparison) -> str:
    head, lines = formats.matrix(table)
    body = []
    for row, (name, cells) in zip(table.rows, lines, strict=True):
        columns = [f"<td>{escape(name)}</td>"]
        for number, cell in enumerate(cells):
            found = table.cells.get((row, table.cols[number])) if number < len(table.cols) else None
            value = found.mean if found else cell.text.replace(",", "")
            look = "best" if cell.is_best else "close" if cell.is_close else ""
            said = {"best": " (best)", "close": " (not significantly different from the best)"}.get(look, "")
            hidden = f'<span class="said">{said}</span>' if said else ""
            columns.append(f'<td class="{look}" data-value="{value}">{escape(cell.text)}{hidden}</td>')
        body.append(f"<tr>{''.join(columns)}</tr>")
    return _html_table("arms", "Arms", head, body)


def _html_table(name: str, caption: str, head: Sequence[str], body: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col"><button>{escape(each)}</button></th>' for each in head)
    return (
        f'<table id="{name}"><caption>{caption}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _curves(table: Comparison) -> Iterator[_Picture]:
    """Yield for each column the scores of its arms during training."""
    for col in table.cols:
        lines = [line for row, cell in table.column(col).items() if (line := _curve(table.display.get(row, row), cell))]
        if lines:
            caption = f"{col}: mean, and from the worst to the best seed"
            styled = [_styled(line, number) for number, line in enumerate(lines)]
            figure = plots.line_chart("", styled, x="step", y=_metric_name(table, col), legend=False)
            yield _Picture(caption, figure, [line.name for line in lines])


def _curve(name: str, cell: Cell) -> plots.Line | None:
    """Return the mean over seeds at each step, between the worst and the best; None without evaluations."""
    by_step: dict[int, list[float]] = {}
    for run in cell.runs:
        for step, value in evaluations(run, cell.metric.name):
            by_step.setdefault(step, []).append(value * formats.scale(cell.metric))
    if not by_step:
        return None
    steps = sorted(by_step)
    values = [by_step[step] for step in steps]
    means = [sum(each) / len(each) for each in values]
    return plots.Line(name, steps, means, list(map(min, values)), list(map(max, values)))


def _styled(line: plots.Line, number: int) -> plots.Line:
    colour, style = _look(number)
    return replace(line, colour=colour, style=style)


def evaluations(run: Run, metric: str) -> list[tuple[int, float]]:
    """Return step and score of every evaluation that a run's events tell of; of several tasks at a step, the mean."""
    path = run.folder / "events.jsonl"
    found: dict[int, list[float]] = {}
    for line in lines_of(path) if path.exists() else ():
        if '"evaluated"' not in line:
            continue
        try:
            event = json.loads(line)
            value = event["scores"].get(metric)
        except (json.JSONDecodeError, KeyError, AttributeError):  # a line that was cut off
            continue
        if isinstance(value, int | float) and math.isfinite(value):
            found.setdefault(event["step"], []).append(float(value))
    return [(step, sum(values) / len(values)) for step, values in found.items()]


def _costs(table: Comparison) -> Iterator[_Picture]:
    """Yield for each column and cost the scores of its arms against it."""
    costs = (("trainable parameters", _trainable, True), ("seconds of training", _seconds, False))
    for col in table.cols:
        for cost, value, logarithmic in costs:
            points = _points(table, col, value)
            if points:
                figure = plots.scatter(
                    "",
                    points,
                    x=cost,
                    y=_metric_name(table, col),
                    logarithmic=logarithmic,
                    higher_is_better=_metric(table, col).higher_is_better,
                )
                caption = f"{col}: score against {cost}, ± standard deviation over seeds"
                yield _Picture(caption, figure, [point.name for point in points])


def _trainable(run: Run) -> float | None:
    return run.record.parameters.get("trainable")


def _seconds(run: Run) -> float | None:
    return run.record.training.get("seconds")


def _points(table: Comparison, col: str, cost: Callable[[Run], float | None]) -> list[plots.Point]:
    found = []
    for row, cell in table.column(col).items():
        known = [value for run in cell.runs if (value := cost(run))]
        if known and not math.isnan(cell.mean):
            times = formats.scale(cell.metric)
            spread = 0.0 if math.isnan(cell.deviation) else cell.deviation
            y, low, high = cell.mean * times, (cell.mean - spread) * times, (cell.mean + spread) * times
            found.append(plots.Point(table.display.get(row, row), sum(known) / len(known), y, low, high))
    return found


def _metric(table: Comparison, col: str) -> Metric:
    return next(iter(table.column(col).values())).metric


def _metric_name(table: Comparison, col: str) -> str:
    metric = _metric(table, col)
    return f"{metric.name}{' %' if formats.scale(metric) == 100 else ''}"


def _experts(table: Comparison) -> Iterator[_Picture]:
    """Yield how much each expert of each layer was used in an arm's first run, and how far apart the experts are."""
    for row in table.rows:
        run = table.runs_of(row)[0]
        arm = f"{table.display.get(row, row)}, seed {run.record.seed}"
        try:
            routing = read_record(run.folder).routing
        except RecordError:
            continue
        if routing:
            layers = [f"layer {layer}" for layer in routing]
            usage = [statistics["usage"] for statistics in routing.values()]
            yield _Picture(f"{arm}: share of the routing", plots.heat_map("", layers, usage))
            yield from _redundancy(run, table.which, arm)


def _redundancy(run: Run, which: str, arm: str) -> Iterator[_Picture]:
    """Yield how far apart the experts of each layer and linear are; nothing for a run without an adapter of experts."""
    try:
        experts = expert_similarity.of_run(run.folder / f"adapter-{which}.safetensors")
    except MolexError:
        return
    layers, linears, values = expert_similarity.table(experts, "distance")
    figure = plots.heat_map("", layers, values.tolist(), columns="linear", names=linears)
    yield _Picture(f"{arm}: mean distance between two experts", figure)


def _runs(table: Comparison, beside: Path) -> str:
    body = []
    for (row, col), cell in table.cells.items():
        for run in cell.runs:
            link = _relative(run.folder, beside)
            score = run.score(table.which, cell.metric.name)
            shown = "undefined" if score is None else f"{score * formats.scale(cell.metric):.2f}"
            body.append(
                f"<tr><td>{escape(table.display.get(row, row))}</td><td>{escape(col)}</td>"
                f'<td data-value="{run.record.seed}">{run.record.seed}</td>'
                f'<td data-value="{score}">{shown}</td><td>{escape("; ".join(run.record.degenerate))}</td>'
                f'<td><a href="{escape(link)}/record.json">{escape(run.folder.name)}</a></td></tr>'
            )
    return _html_table("runs", "Runs", ["arm", "column", "seed", "score", "degenerate", "record"], body)


def _relative(folder: Path, beside: Path) -> str:
    return quote(Path(os.path.relpath(folder.resolve(), beside.resolve())).as_posix())
