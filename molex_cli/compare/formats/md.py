"""Markdown: a table with the notes as a list under it."""

import re

from molex_cli.compare.layout import CellText, Report, matrix


def text(report: Report) -> str:
    """Return the report in Markdown."""
    head, lines = matrix(report.table)
    rows = [f"| {' | '.join(map(_escaped, head))} |", f"|---|{'---:|' * (len(head) - 1)}"]
    rows += [f"| {_escaped(name)} | {' | '.join(map(_cell, cells))} |" for name, cells in lines]
    return "\n".join([*rows, "", *(f"- {note}" for note in report.lines())]) + "\n"


def _cell(cell: CellText) -> str:
    shown = _escaped(cell.text)
    return f"**{shown}**" if cell.is_best else f"<u>{shown}</u>" if cell.is_close else shown


def _escaped(content: str) -> str:
    """Return text that is no Markdown: no end of a cell, no link, no tag."""
    return re.sub(r"([|\[\]<])", r"\\\1", content)
