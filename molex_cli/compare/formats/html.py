"""HTML: one page that needs nothing but a browser: no server, no network, no other file."""

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from molex_cli.compare import svg
from molex_cli.compare.layout import Report, matrix
from molex_cli.compare.pictures import Picture, costs, curves, experts, look
from molex_cli.compare.table import Comparison

TEMPLATE = Path(__file__).with_name("page.html")
HIDDEN = {  # what a screen reader says instead of a style
    "": "",
    "best": '<span class="hidden"> (best)</span>',
    "close": '<span class="hidden"> (not significantly different from the best)</span>',
}
KEY_STYLES = ("solid", "dashed", "dotted")  # of CSS, as plots.STYLES


def text(report: Report) -> str:
    """Return the page; links to runs are relative to the folder that it will lie in."""
    table = report.table
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        table=_table(table),
        notes="".join(f"<li>{escape(line)}</li>" for line in report.lines()),
        curves=_figures("curve", curves(table)),
        costs=_figures("cost", costs(table)),
        experts=_figures("experts", experts(table)) or "<p>No arm has experts.</p>",
        runs=_runs(table, report.folder or Path()),
    )


def _figures(section: str, pictures: Iterable[Picture]) -> str:
    """Return the figures of a section of the page, whose name makes their ids unique."""
    return "".join(_figure(f"{section}{number}-", picture) for number, picture in enumerate(pictures))


def _figure(prefix: str, picture: Picture) -> str:
    drawn = svg.inline(picture.figure, picture.caption, prefix)
    keys = "".join(f"<li>{_key(number)}{escape(name)}</li>" for number, name in enumerate(picture.names))
    key = f'<ul class="key">{keys}</ul>' if keys else ""
    return f"<figure><figcaption>{escape(picture.caption)}</figcaption>{drawn}{key}</figure>"


def _key(number: int) -> str:
    """Return a short line as the chart draws the series of a number."""
    colour, style = look(number)
    return f'<span style="border-top: 3px {KEY_STYLES[style % len(KEY_STYLES)]} var(--c{colour})"></span>'


def _table(table: Comparison) -> str:
    head, lines = matrix(table)
    body = []
    for row, (name, cells) in zip(table.rows, lines, strict=True):
        columns = [f"<td>{escape(name)}</td>"]
        for number, cell in enumerate(cells):
            found = table.cells.get((row, table.cols[number])) if number < len(table.cols) else None
            value = found.mean if found else cell.text.replace(",", "")
            style = "best" if cell.is_best else "close" if cell.is_close else ""
            columns.append(f'<td class="{style}" data-value="{value}">{escape(cell.text)}{HIDDEN[style]}</td>')
        body.append(f"<tr>{''.join(columns)}</tr>")
    return _html_table("arms", "Arms", head, body)


def _html_table(name: str, caption: str, head: Sequence[str], body: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col"><button>{escape(each)}</button></th>' for each in head)
    return (
        f'<table id="{name}"><caption>{caption}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _runs(table: Comparison, beside: Path) -> str:
    body = []
    for (row, col), cell in table.cells.items():
        for run in cell.runs:
            link = _relative(run.folder, beside)
            score = run.score(table.which, cell.metric.name)
            shown = "undefined" if score is None else f"{score * cell.metric.scale:.2f}"
            body.append(
                f"<tr><td>{escape(table.display.get(row, row))}</td><td>{escape(col)}</td>"
                f'<td data-value="{run.record.seed}">{run.record.seed}</td>'
                f'<td data-value="{score}">{shown}</td><td>{escape("; ".join(run.record.degenerate))}</td>'
                f'<td><a href="{escape(link)}/record.json">{escape(run.folder.name)}</a></td></tr>'
            )
    return _html_table("runs", "Runs", ["arm", "column", "seed", "score", "degenerate", "record"], body)


def _relative(folder: Path, beside: Path) -> str:
    return quote(Path(os.path.relpath(folder.resolve(), beside.resolve())).as_posix())
