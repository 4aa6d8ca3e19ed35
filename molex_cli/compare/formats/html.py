"""HTML: one page that needs nothing but a browser: no server, no network, no other file.

The template engine escapes every value. Should one get through, the page's policy runs no script but our own.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from molex_cli.compare import svg
from molex_cli.compare.collapse import CONSTANT
from molex_cli.compare.effects import Effect, as_rows
from molex_cli.compare.layout import Report, Section, matrix
from molex_cli.compare.loading import Run
from molex_cli.compare.pictures import MOST_MAPS, Picture, costs, curves, differences, experts, look
from molex_cli.compare.table import Cell, Comparison
from molex_cli.runtime.streams import visible

HERE = Path(__file__).parent
HIDDEN = {"best": "best", "close": "not significantly different from the best"}  # what a screen reader says of a style
KEY_STYLES = ("solid", "dashed", "dotted")  # of CSS, as plots.STYLES
TEXT, WRAPPED, LONG = "text", "text wrapped", "text long"  # styles of cells that are no numbers
MOST_RUNS = 200  # more are shown when the reader asks for them: a browser takes a second for some thousand rows
RUN_HEAD = ("arm", "column", "seed", "score", "degenerate", "record")
RUN_STYLES = ("", TEXT, "", "", TEXT, TEXT)


@dataclass(frozen=True)
class Entry:
    """A cell of a table."""

    text: Any
    value: Any = None
    """What it is sorted by, if not its text."""
    style: str = ""
    link: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table as it stands in the page."""

    title: str
    head: Sequence[Entry]
    rows: Sequence[Sequence[Entry]]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture as it is drawn in the page."""

    caption: str
    svg: str
    keys: Sequence[tuple[str, str]]
    """Class and name of each series."""


def text(report: Report) -> str:
    """Return the page; links to runs are relative to the folder that it will lie in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    table, styles = report.table, svg.StyleSheet()
    head, arms = _arms(table)
    drawn = {
        "forest": _figures("difference", differences(report.differences()), styles),
        "curves": _figures("curve", curves(table), styles),
        "costs": _figures("cost", costs(table), styles),
        "experts": _figures("experts", experts(table), styles),
    }
    engine = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True
    )
    engine.filters["hash"] = _hash
    return engine.get_template("page.html").render(
        style=f"{_own('page.css')}{styles}",
        script=_own("page.js"),
        hidden=HIDDEN,
        wrapped=(WRAPPED, LONG),
        title=report.title or f"molex compare: {', '.join(table.cols)}",
        about=_about(table),
        answers=report.answers,
        is_study=bool(report.title),
        head=head,
        arms=arms,
        notes={str(heading): [note.text for note in notes] for heading, notes in report.remarks().items()},
        compared=_differences(report.differences()),
        sections=[_section(each) for each in report.sections if each.is_on_page],
        most_maps=MOST_MAPS,
        most_runs=MOST_RUNS,
        run_head=[Entry(*each) for each in zip(RUN_HEAD, [None] * len(RUN_HEAD), RUN_STYLES, strict=True)],
        runs=list(_runs(table, report.folder or Path())),
        **drawn,
    )


def _about(table: Comparison) -> str:
    """Return how many runs of how many arms the page shows, and from which days."""
    runs = [run for row in table.rows for run in table.runs_of(row)]
    days = sorted(moment[:10] for run in runs if (moment := run.record.finished or run.record.started))
    when = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "of an unknown date"
    return f"{_counted(len(runs), 'run')} of {_counted(len(table.rows), 'arm')}, {when}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _shown(value: Any) -> Any:
    """Return a value as the page shows it; what the template has made is of another type than text."""
    return visible(value) if type(value) is str else value


def _own(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Return what a policy allows content by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _figures(section: str, pictures: Iterable[Picture], styles: svg.StyleSheet) -> list[Figure]:
    """Return the figures of a section of the page, whose name makes their ids unique."""
    return [
        Figure(
            picture.caption,
            svg.inline(picture.figure, picture.caption, f"{section}{number}-", styles),
            [(_key(i), name) for i, name in enumerate(picture.names)],
        )
        for number, picture in enumerate(pictures)
    ]


def _key(number: int) -> str:
    """Return the classes of a short line as the chart draws the series of a number."""
    colour, style = look(number)
    return f"c{colour} {KEY_STYLES[style % len(KEY_STYLES)]}"


def _head(names: Sequence[str]) -> list[Entry]:
    return list(map(Entry, names))


def _differences(effects: Sequence[Effect]) -> PageTable:
    """Return the table of differences."""
    head, rows = as_rows(effects)
    styles = [WRAPPED, WRAPPED, WRAPPED, "", "", "", "", WRAPPED, LONG]
    body = []
    for effect, row in zip(effects, rows, strict=True):
        values = (None, None, None, effect.estimate, effect.low, effect.p, effect.seeds, None, None)
        body.append([Entry(*each) for each in zip(row, values, styles, strict=True)])
    return PageTable("Differences", list(map(Entry, head, [None] * len(head), styles)), body)


def _section(section: Section) -> PageTable:
    styles = ["" if each else TEXT for each in section.numeric()]
    head = list(map(Entry, section.head, [None] * len(styles), styles))
    body = [[Entry(*each) for each in zip(row, map(_number, row), styles, strict=True)] for row in section.rows]
    return PageTable(section.title, head, body, section.note)


def _number(text: str) -> str:
    return text.replace(",", "")  # what a script reads as a number, if it begins with one


def _arms(table: Comparison) -> tuple[list[Entry], list[list[Entry]]]:
    """Return the head and the rows of the table of arms."""
    head, lines = matrix(table)
    body = []
    for row, (name, cells) in zip(table.rows, lines, strict=True):
        entries = [Entry(name)]
        for number, cell in enumerate(cells):
            found = table.cells.get((row, table.cols[number])) if number < len(table.cols) else None
            value = found.mean if found else _number(cell.text)
            entries.append(Entry(cell.text, value, "best" if cell.is_best else "close" if cell.is_close else ""))
        body.append(entries)
    return _head(head), body


def _runs(table: Comparison, beside: Path) -> Iterator[list[Entry]]:
    """Yield the row of each run."""
    for (row, col), cell in table.cells.items():
        for run in cell.runs:
            score = run.score(table.which, cell.metric.name)
            shown = _undefined(run, cell) if score is None else f"{score * cell.metric.scale:.2f}"
            yield [
                Entry(table.name(row)),
                Entry(col, style=WRAPPED),
                Entry(run.record.seed, run.record.seed),
                Entry(shown, score),
                Entry("; ".join(run.record.degenerate), style=LONG),
                Entry(run.folder.name, style=TEXT, link=f"{_relative(run.folder, beside)}/record.json"),
            ]


def _undefined(run: Run, cell: Cell) -> str:
    """Return why a run has no score, and what it counts as."""
    why = ": all predictions are the same" if CONSTANT in run.record.degenerate else ""
    return f"undefined{why}; counts as {cell.metric.undefined * cell.metric.scale:.2f}"


def _relative(folder: Path, beside: Path) -> str:
    return quote(os.fsencode(Path(os.path.relpath(folder.resolve(), beside.resolve())).as_posix()))
