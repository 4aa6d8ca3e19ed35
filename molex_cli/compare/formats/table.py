"""A table for the terminal, as wide as it needs to be: bold the best, underlined what is not different from it."""

from molex_cli.compare.layout import CellText, Report, matrix

WIDE = 10_000  # columns: a cell that is cut is worth nothing


def text(report: Report) -> str:
    """Return the table with the notes under it; with styles if it goes to a terminal."""
    from rich.table import Table

    from molex_cli.runtime.terminal import Terminal, styled

    head, lines = matrix(report.table)
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for name, cells in lines:
        table.add_row(name, *(styled(cell.text, _style(cell)) for cell in cells))
    is_file = report.folder is not None
    console = Terminal(width=WIDE, force_terminal=False if is_file else None)
    with console.capture() as captured:
        console.print(table)
        for line in report.lines():
            console.print(line, soft_wrap=True)
    return captured.get()


def _style(cell: CellText) -> str:
    return "bold" if cell.is_best else "underline" if cell.is_close else ""
