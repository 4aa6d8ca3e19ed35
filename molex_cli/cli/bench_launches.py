"""`molex bench --launches`: how many kernels a GPU launches in a training step."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molex_cli.cost.measuring import Bench

NOTE = (
    "Launches and copies of the forward and backward pass, balance loss and tallies of the routers; the optimizer's "
    "apart. GPU ms: of these kernels alone, without the pauses between them."
)


def report(bench: "Bench") -> list[dict[str, Any]]:
    """Return the arms as JSON has them."""
    from molex_cli.cost import launches

    return [dataclasses.asdict(arm) for arm in launches.counted(bench)]


def show_arms(arms: "Sequence[dict[str, Any]]", title: str) -> None:
    """Print one table."""
    from rich.table import Table

    from molex_cli.runtime.terminal import Terminal, show

    others = list(arms[0]["ratio"])
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("arm")
    for column in ("launches a step", *(f"x {other}" for other in others), "copies", "optimizer", "GPU ms"):
        table.add_column(column, justify="right")
    for arm in arms:
        ratios = (f"{arm['ratio'][other]:.2f}" for other in others)
        rest = str(arm["copies"]), str(arm["optimizer_launches"]), f"{arm['gpu_milliseconds']:.2f}"
        table.add_row(arm["name"], str(arm["launches"]), *ratios, *rest)
    show(table)
    Terminal(soft_wrap=True).print(NOTE)
