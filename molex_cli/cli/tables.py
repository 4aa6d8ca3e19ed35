"""Tables in the terminal, as wide as they need to be: a cell that is cut is worth nothing."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def show(table: Table) -> None:
    """Print a table at its full width."""
    wide = Console(width=10_000)
    Console(width=max(80, Measurement.get(wide, wide.options, table).maximum), highlight=False).print(table)
