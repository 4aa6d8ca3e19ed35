"""Markdown: the answers, a table with the notes as a list under it, and further tables."""

import re
from collections.abc import Iterable, Iterator, Sequence

from molex_cli.compare.effects import as_rows
from molex_cli.compare.layout import CellText, Report, Section, matrix
from molex_cli.compare.remarks import Note
from molex_cli.runtime.streams import visible

# What ends a cell, begins a tag, a link, code, emphasis or a formula; what begins a block at the start of a text;
# and what makes a link of a bare address. An underscore inside a word begins nothing.
ACTIVE = re.compile(r"[\\|\[\]<>`*~&$@]|(?<![^\W_])_|_(?![^\W_])|\A[#=+]|\A-(?!\d)|:(?=//)|(?<=www)\.", re.IGNORECASE)


def text(report: Report) -> str:
    """Return the report in Markdown."""
    head, lines = matrix(report.table, report.columns)
    first = [f"# {escaped(report.title)}"] if report.title else []
    rows = [[escaped(name), *map(_cell, cells)] for name, cells in lines]
    arms = table(head, rows, [False, *[True] * len(head[1:])])
    remarks = [line for each in report.remarks().items() for line in _group(*each)]
    found = report.differences()
    sections = [*([Section("Differences", *as_rows(found))] if found else []), *report.sections]
    return "\n\n".join([*first, *map(escaped, report.answers), arms, *remarks, *map(_section, sections)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool]) -> str:
    """Return a table; cells of the rows are Markdown, those of the head are not."""
    rule = "".join("---:|" if each else "---|" for each in numeric)
    lines = [f"| {' | '.join(map(escaped, head))} |", f"|{rule}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def _group(heading: str, notes: Iterable[Note]) -> Iterator[str]:
    """Yield a heading and the list of its notes."""
    yield f"**{heading}**"
    yield "\n".join(f"- {escaped(note.text)}" for note in notes)


def _section(section: Section) -> str:
    rows = [list(map(escaped, row)) for row in section.rows]
    parts = [f"## {escaped(section.title)}", table(section.head, rows, section.numeric()), escaped(section.note)]
    return "\n\n".join(filter(None, parts))


def _cell(cell: CellText) -> str:
    shown = escaped(cell.text)
    return f"**{shown}**" if cell.is_best else f"<u>{shown}</u>" if cell.is_close else shown


def escaped(content: str) -> str:
    """Return one line of text that is no Markdown."""
    line = ACTIVE.sub(r"\\\g<0>", " ".join(visible(content).split()))
    return re.sub(r"\A(\d+)([.)])(?= |\Z)", r"\1\\\2", line)  # it would begin a list
