"""rich's console for texts of users and files: `[/INST]` and `:smile:` are shown as they are."""

from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


class Terminal(Console):
    """A console to which no text is markup; what is styled says so with `style=` or a `rich.text.Text`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def on_broken_pipe(self) -> None:
        """Raise the error that came: rich would end the process, and a run with it."""
        self.quiet = True
        raise BrokenPipeError


def show(table: Table, least: int = 80) -> None:
    """Print a table as wide as it needs to be: a cell that is cut is worth nothing."""
    wide = Terminal(width=10_000)
    Terminal(width=max(least, Measurement.get(wide, wide.options, table).maximum), soft_wrap=True).print(table)
