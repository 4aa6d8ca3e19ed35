"""Lines and tables of a sweep that fit the terminal; in a file they are as wide as they need to be."""

import re
from collections.abc import Sequence

from rich.cells import cell_len
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from molex_cli.runtime.streams import visible
from molex_cli.runtime.terminal import Terminal, show

INDENT = "  "
NUMBERS = ("score", "time", "mean ± sd", "n")  # columns that are flush right
NAMED = ("n", "collapsed")  # what says nothing without its heading


def say_line(terminal: Terminal, text: str, style: str = "") -> None:
    """Print a line; on a terminal it goes on in indented ones, and breaks no word, so no path."""
    lines = wrapped(visible(text), terminal.width) if terminal.is_terminal else [text]
    for line in lines:
        terminal.print(line, style=style)


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of so many cells; a longer word has a line of its own."""
    lines = [""]
    for word in re.findall(r"\s*\S+", text):
        if lines[-1].strip() and cell_len(lines[-1] + word) > width:
            lines.append(INDENT + word.lstrip())
        else:
            lines[-1] += word
    return lines


def show_rows(terminal: Terminal, head: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print a table; where a terminal is too narrow for it, each row as lines, none of its cells broken."""
    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    wide = Terminal(width=10_000)
    if not terminal.is_terminal or Measurement.get(wide, wide.options, table).maximum <= terminal.width:
        show(table)
        return
    for first, *cells in rows:
        terminal.print(first)
        named = zip(head[1:], cells, strict=True)
        parts = [f"{name} {cell}" if name in NAMED else str(cell) for name, cell in named if str(cell)]
        for line in filled(parts, terminal.width):
            terminal.print(line)


def filled(parts: Sequence[str], width: int) -> list[str]:
    """Return parts in as few indented lines as they fit into; none is broken."""
    found: list[str] = []
    for part in parts:
        longer = f"{found[-1]}  {part}" if found else ""
        if longer and cell_len(longer) <= width:
            found[-1] = longer
        else:
            found.append(INDENT + part)
    return found
