"""`molex bench --operations`: how many operations a training step is, for any model, without its weights."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molex_cli.cost.measuring import Bench

NOTE = (
    "Forward and backward pass, balance loss and tallies of the routers; not the optimizer, nor what only makes a view."
)


def report(bench: "Bench") -> list[dict[str, Any]]:
    """Return the arms as JSON has them."""
    from molex_cli.cost import operations

    return [dataclasses.asdict(arm) for arm in operations.counted(bench.experiments, bench.work)]


def show_arms(arms: "Sequence[dict[str, Any]]", title: str) -> None:
    """Print one table."""
    from rich.table import Table

    from molex_cli.runtime.terminal import Terminal, show

    others = list(arms[0]["ratio"])
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("arm")
    for column in ("operations a step", *(f"x {other}" for other in others)):
        table.add_column(column, justify="right")
    for arm in arms:
        table.add_row(arm["name"], str(arm["operations"]), *(f"{arm['ratio'][other]:.2f}" for other in others))
    show(table)
    Terminal(soft_wrap=True).print(NOTE)
