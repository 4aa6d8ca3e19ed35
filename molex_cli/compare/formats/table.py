"""Tables for the terminal: the columns that fit, bold the best, underlined what is not different from it."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from molex_cli.compare.effects import Effect, in_words
from molex_cli.compare.layout import CellText, Column, Report, Section, chosen, first_heading
from molex_cli.runtime.streams import visible
from molex_cli.runtime.terminal import Terminal, styled

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100  # of a file and a pipe, and at most of a sentence
GAP = 2  # between columns
KEPT = "\u00a0"  # a space that ends no line
WIDE = 10_000  # columns: a cell that is cut is worth nothing
HEAD = ("arm", "minus", "column", "difference", "95 %", "p", "n", "verdict")


def text(report: Report) -> str:
    """Return the table with all else before and under it; with styles if it goes to a terminal."""
    is_file = report.folder is not None
    width = WIDTH if is_file else shutil.get_terminal_size((WIDTH, 0)).columns
    # Whoever searches what is piped finds a sentence in one line.
    line = min(width, WIDTH) if sys.stdout.isatty() and not is_file else WIDE
    console = Terminal(width=WIDE, force_terminal=False if is_file else None)
    with console.capture() as captured:
        for each in _parts(report, width, line):
            console.print(each, soft_wrap=True)
    return captured.get()


def _parts(report: Report, width: int, line: int) -> "Iterator[str | Text | Table]":
    """Yield what is printed: tables of a width, sentences in lines of another."""
    if first := list(filter(None, [report.title, *report.answers])):
        for each in first:
            yield from _wrapped(each, line)
        yield ""
    yield from _arms(report, width, line)
    yield from _remarks(report, line)
    yield from _differences(report.differences(), min(width, WIDTH))
    yield from _sections(report.sections)


def _wrapped(sentence: str, width: int, indent: str = "") -> list[str]:
    """Return a sentence in lines, without breaking a path or a setting's name."""
    kept = visible(sentence).replace(" %", f"{KEPT}%")
    lines = wrap(
        kept,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(KEPT, " ") for line in lines]


def _arms(report: Report, width: int, line: int) -> "Iterator[Table | str]":
    from rich.table import Table

    names = [" ".join(visible(report.table.name(row)).split()) for row in report.table.rows]
    first = [first_heading(report.table), *names]
    shown = chosen(report.table, report.columns)
    left_out = [] if report.columns else _not_fitting(shown, width - max(map(cell_len, first)))
    shown = [column for column in shown if column not in left_out]
    table = Table(box=None, pad_edge=False)
    table.add_column(first[0], no_wrap=True, vertical="bottom")
    for column in shown:
        table.add_column("\n".join(_heading(column)), justify="right", no_wrap=True, vertical="bottom")
    for i, name in enumerate(names):
        table.add_row(name, *(styled(column.cells[i].text, _style(column.cells[i])) for column in shown))
    yield table
    if left_out:
        listed = ", ".join(column.name for column in left_out)
        yield from _wrapped(f"columns that do not fit: {listed} (--columns all, or --columns NAME,NAME)", line)
    yield ""


def _not_fitting(columns: Sequence[Column], room: int) -> list[Column]:
    """Return the columns for which there is no room; the first is always shown."""
    left_out = []
    for column in columns:
        needed = GAP + _width(column)
        if needed > room and column is not columns[0]:
            left_out.append(column)
        else:
            room -= needed
    return left_out


def _width(column: Column) -> int:
    """Return how wide a column is whose heading may have several lines."""
    return max(cell_len(visible(each)) for each in (*column.heading.split(), *(cell.text for cell in column.cells)))


def _heading(column: Column) -> list[str]:
    return wrap(visible(column.heading), _width(column), break_long_words=False, break_on_hyphens=False)


def _style(cell: CellText) -> str:
    return "bold" if cell.is_best else "underline" if cell.is_close else ""


def _remarks(report: Report, line: int) -> Iterator[str]:
    """Yield the notes under their headings, and how many details there are besides."""
    details = 0
    for heading, notes in report.remarks().items():
        shown = [note for note in notes if report.is_verbose or not note.is_detail]
        details += len(notes) - len(shown)
        yield from [heading] * bool(shown)
        for note in shown:
            yield from _wrapped(note.text, line, indent="  ")
    if details:
        yield f"{details} {'notes' if details > 1 else 'note'} on details: --verbose"


def _differences(found: Sequence[Effect], width: int) -> Iterator[str | Text]:
    """Yield the differences column by column, what else is known of one in lines of their own under it."""
    told = [(in_words(effect), effect) for effect in found]
    for column, group in groupby(told, key=lambda each: each[0][2]):
        words, effects = zip(*group, strict=True)
        (other, *others) = dict.fromkeys(each[1] for each in words)
        left_out = (2,) if others else (1, 2)  # an arm that all are compared with is named once
        table = Section("", _without(HEAD, left_out), [_without(each, left_out) for each in words])
        head, *rows = _aligned(table)
        yield from ("", f"differences in {column}{'' if others else f' from {other}'}", head)
        for row, effect in zip(rows, effects, strict=True):
            yield row
            for line in wrap(visible(effect.detail), width, initial_indent="  ", subsequent_indent="  "):
                yield styled(line, "dim")


def _without(cells: Sequence[str], places: Sequence[int]) -> list[str]:
    return [cell for place, cell in enumerate(cells) if place not in places]


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
