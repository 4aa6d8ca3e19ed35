"""Markdown: a table with the notes as a list under it."""

from molex_cli.compare.layout import CellText, Report, matrix


def text(report: Report) -> str:
    """Return the report in Markdown."""
    head, lines = matrix(report.table)
    rows = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    rows += [f"| {name} | {' | '.join(map(_cell, cells))} |" for name, cells in lines]
    return "\n".join([*rows, "", *(f"- {note}" for note in report.lines())]) + "\n"


def _cell(cell: CellText) -> str:
    shown = cell.text.replace("|", "\\|")
    return f"**{shown}**" if cell.is_best else f"<u>{shown}</u>" if cell.is_close else shown
