"""rich's console for texts of users and files: `[/INST]` and `:smile:` are shown as they are, controls as escapes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from molex_cli.runtime.streams import visible


class Terminal(Console):
    """A console to which no text is markup; what is styled says so with `style=` or a `rich.text.Text`."""

    def __init__(self, **settings: Any) -> None:
        # In a notebook rich would display a page for each line, even of what is captured.
        super().__init__(markup=False, emoji=False, highlight=False, force_jupyter=False, **settings)

    @property
    def is_live(self) -> bool:
        """Whether what is shown may change in place: not on a dumb terminal, nor for who wants no escapes."""
        return self.is_interactive and not self.no_color

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return a text as it is shown, before anything is as wide as it."""
        return super().render_str(visible(text), **settings)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """Return what is written: no segment of text can move the cursor, whoever made it."""
        return super()._render_buffer(
            each if each.control else Segment(visible(each.text), each.style) for each in buffer
        )

    def on_broken_pipe(self) -> None:
        """Raise the error that came: rich would end the process, and a run with it."""
        self.quiet = True
        raise BrokenPipeError


def styled(text: str, style: str) -> Text:
    """Return a text in a style, for a cell of a table."""
    return Text(visible(text), style)


def show(table: Table, least: int = 80) -> None:
    """Print a table as wide as it needs to be: a cell that is cut is worth nothing."""
    wide = Terminal(width=10_000)
    Terminal(width=max(least, Measurement.get(wide, wide.options, table).maximum), soft_wrap=True).print(table)


def paged(text: str) -> bool:
    """Show a text of more lines than the terminal has in a pager, PAGER or less; return whether that was done."""
    pager = os.environ.get("PAGER", "less")
    if not (sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"):
        return False
    if text.count("\n") < shutil.get_terminal_size().lines or not shutil.which(pager.split(" ")[0]):
        return False
    keeps_styles = {"LESS": os.environ.get("LESS", "FRX")}  # less leaves at once what fits, as git has it
    subprocess.run(pager, shell=True, input=visible(text), text=True, env=os.environ | keeps_styles, check=False)
    return True
