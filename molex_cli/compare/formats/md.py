"""Markdown: a table with the notes as a list under it."""

import re

from molex_cli.compare.layout import CellText, Report, matrix
from molex_cli.runtime.streams import visible

# What ends a cell, begins a tag, a link, code, emphasis or a formula; what begins a block at the start of a text;
# and what makes a link of a bare address. An underscore inside a word begins nothing.
ACTIVE = re.compile(r"[\\|\[\]<>`*~&$@]|(?<![^\W_])_|_(?![^\W_])|\A[#=+]|\A-(?!\d)|:(?=//)|(?<=www)\.", re.IGNORECASE)


def text(report: Report) -> str:
    """Return the report in Markdown."""
    head, lines = matrix(report.table)
    rows = [f"| {' | '.join(map(escaped, head))} |", f"|---|{'---:|' * (len(head) - 1)}"]
    rows += [f"| {escaped(name)} | {' | '.join(map(_cell, cells))} |" for name, cells in lines]
    return "\n".join([*rows, "", *(f"- {escaped(note)}" for note in report.lines())]) + "\n"


def _cell(cell: CellText) -> str:
    shown = escaped(cell.text)
    return f"**{shown}**" if cell.is_best else f"<u>{shown}</u>" if cell.is_close else shown


def escaped(content: str) -> str:
    """Return one line of text that is no Markdown."""
    line = ACTIVE.sub(r"\\\g<0>", " ".join(visible(content).split()))
    return re.sub(r"\A(\d+)([.)])(?= |\Z)", r"\1\\\2", line)  # it would begin a list
