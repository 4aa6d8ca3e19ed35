"""Tables for the terminal, as wide as they need to be: bold the best, underlined what is not different from it."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import wrap

from rich.cells import cell_len
from rich.text import Text

from molex_cli.compare.effects import Effect, in_words
from molex_cli.compare.layout import CellText, Report, Section, matrix
from molex_cli.runtime.streams import visible
from molex_cli.runtime.terminal import Terminal, styled

COLUMNS = 100  # of a terminal, for sentences
WIDE = 10_000  # columns: a cell that is cut is worth nothing
HEAD = ("arm", "minus", "difference", "95 %", "p", "n", "verdict")


def text(report: Report) -> str:
    """Return the table with all else before and under it; with styles if it goes to a terminal."""
    is_file = report.folder is not None
    console = Terminal(width=WIDE, force_terminal=False if is_file else None)
    with console.capture() as captured:
        for line in filter(None, [report.title, *report.answers]):
            console.print(line, soft_wrap=True)
        _arms(console, report)
        for line in report.remarks():
            console.print(line, soft_wrap=True)
        for each in [*_differences(report.differences()), *_sections(report.sections)]:
            console.print(each, soft_wrap=True)
    return captured.get()


def _arms(console: Terminal, report: Report) -> None:
    from rich.table import Table

    head, lines = matrix(report.table)
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for name, cells in lines:
        table.add_row(name, *(styled(cell.text, _style(cell)) for cell in cells))
    console.print(table)


def _style(cell: CellText) -> str:
    return "bold" if cell.is_best else "underline" if cell.is_close else ""


def _differences(found: Sequence[Effect]) -> Iterator[str | Text]:
    """Yield the differences column by column, what else is known of one in lines of their own under it."""
    words = list(map(in_words, found))
    head, *rows = _aligned(Section("", HEAD, [[one, other, *rest] for one, other, _, *rest in words]))
    told = zip(words, rows, found, strict=True)
    for column, group in groupby(told, key=lambda each: each[0][2]):
        yield ""
        yield f"differences in {column}"
        yield head
        for _, row, effect in group:
            yield row
            for line in wrap(visible(effect.detail), COLUMNS, initial_indent="  ", subsequent_indent="  "):
                yield styled(line, "dim")


def _sections(sections: Sequence[Section]) -> Iterator[str]:
    for section in sections:
        yield ""
        yield section.title
        yield from _aligned(section)
        yield from filter(None, [section.note])


def _aligned(table: Section) -> list[str]:
    """Return the head and the rows of a table with their columns below each other."""
    rows = [[" ".join(visible(cell).split("\n")) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_filled, row, widths, table.numeric())).rstrip() for row in rows]


def _filled(cell: str, width: int, is_number: bool) -> str:
    room = " " * (width - cell_len(cell))
    return room + cell if is_number else cell + room
