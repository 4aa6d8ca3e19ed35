"""A comparison as one page that needs nothing but a browser: no server, no network, no other file."""

import json
import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from molex_cli.compare import charts, formats
from molex_cli.compare.loading import Run
from molex_cli.compare.table import Cell, Comparison
from molex_cli.errors import MolexError, RecordError
from molex_cli.methods.base import low_rank_scale
from molex_cli.records import lines_of, read_record
from molex_cli.statistics import expert_similarity

TEMPLATE = Path(__file__).with_name("page.html")


def page(table: Comparison, notes: Sequence[str], beside: Path) -> str:
    """Return the page; links to runs are relative to the folder that it will lie in."""
    under = [*formats.legend(table), *formats.differences(table), *notes]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        table=_table(table),
        notes="".join(f"<li>{escape(note)}</li>" for note in under),
        curves="".join(_curves(table, col) for col in table.cols),
        costs="".join(_costs(table, col) for col in table.cols),
        experts="".join(_experts(table, row) for row in table.rows) or "<p>No arm has experts.</p>",
        runs=_runs(table, beside),
    )


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


def _curves(table: Comparison, col: str) -> str:
    series = []
    for row, cell in table.column(col).items():
        by_step: dict[int, list[float]] = {}
        for run in cell.runs:
            for step, value in evaluations(run, cell.metric.name):
                by_step.setdefault(step, []).append(value * formats.scale(cell.metric))
        steps = sorted(by_step)
        if not steps:
            continue
        values = [by_step[step] for step in steps]
        means = [sum(each) / len(each) for each in values]
        name, low, high = table.display.get(row, row), list(map(min, values)), list(map(max, values))
        series.append(charts.Line(name, steps, means, low, high))
    if not series:
        return ""
    return charts.lines(f"{col}: mean, and from the worst to the best seed", "step", _name(table, col), series)


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


def _costs(table: Comparison, col: str) -> str:
    found = []
    for what, key, logarithmic in (("trainable parameters", "trainable", True), ("seconds of training", "", False)):
        series = []
        for row, cell in table.column(col).items():
            values = [
                (run.record.parameters.get("trainable") if key else run.record.training.get("seconds"))
                for run in cell.runs
            ]
            known = [value for value in values if value]
            if known and not math.isnan(cell.mean):
                series.append(_point(table.display.get(row, row), sum(known) / len(known), cell))
        if series:
            title = f"{col}: score against {what}, ± standard deviation over seeds"
            found.append(charts.points(title, what, _name(table, col), series, logarithmic=logarithmic))
    return "".join(found)


def _point(name: str, x: float, cell: Cell) -> charts.Point:
    times = formats.scale(cell.metric)
    spread = 0.0 if math.isnan(cell.deviation) else cell.deviation
    return charts.Point(name, x, cell.mean * times, (cell.mean - spread) * times, (cell.mean + spread) * times)


def _name(table: Comparison, col: str) -> str:
    metric = next(iter(table.column(col).values())).metric
    return f"{metric.name}{' %' if formats.scale(metric) == 100 else ''}"


def _experts(table: Comparison, row: str) -> str:
    """Return how much each expert of each layer was used in the arm's first run."""
    run = table.runs_of(row)[0]
    try:
        routing = read_record(run.folder).routing
    except RecordError:
        return ""
    if not routing:
        return ""
    usage = [(f"layer {layer}", figures["usage"]) for layer, figures in routing.items()]
    arm = f"{table.display.get(row, row)}, seed {run.record.seed}"
    title = f"{arm}: share of the routing"
    used = charts.heat_map(title, [name for name, _ in usage], [values for _, values in usage])
    return used + _redundancy(run, table.which, arm)


def _redundancy(run: Run, which: str, arm: str) -> str:
    """Return how far apart the experts of each layer and linear are; empty for a run without an adapter of experts."""
    try:
        experts = expert_similarity.of_run(run.folder / f"adapter-{which}.safetensors", low_rank_scale)
    except MolexError:
        return ""
    layers, linears, values = expert_similarity.table(experts, "distance")
    title = f"{arm}: mean distance between two experts, by linear: {', '.join(linears)}"
    return charts.heat_map(title, layers, values.tolist(), linears)


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
