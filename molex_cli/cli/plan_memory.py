"""What `molex plan --memory` and `--fit` answer."""

from typing import TYPE_CHECKING

from molex_cli.runtime import sizes
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molex_cli.config.schema import Experiment
    from molex_cli.cost.estimate import Memory
    from molex_cli.training.memory.fit import Fit
    from molex_cli.training.memory.rehearsal import StepMemory


def show(experiment: "Experiment", found: "Memory") -> None:
    """Print it."""
    from molex_cli.runtime.hardware import computes_on_gpu

    _show_step(found.memory)
    output, scoring = sizes.shown(found.memory.logits), sizes.shown(found.scoring_peak)
    say(f"output of the model {output}; scoring {experiment.train.eval_batch_size} rows {scoring}")
    others = "CUDA itself" if computes_on_gpu(experiment.hardware) else "Python and its libraries"
    generating = ", keys and values kept while generating" if found.generates else ""
    say(f"not counted: {others}, gaps between what is allocated{generating}")
    if found.limit is not None:
        _show_fits(found.fits, found.limit)
        effective = experiment.train.batch_size * experiment.train.gradient_accumulation_steps
        say(f"tried: every train.batch_size that divides the effective batch, {effective}")


def _show_step(memory: "StepMemory") -> None:
    """Print what a training step holds, by part, and what of it lives at the peak."""
    from rich.table import Table

    from molex_cli.runtime import terminal

    each = f" in each of {memory.processes} processes" if memory.processes > 1 else ""
    table = Table(f"memory of a step of {memory.rows} x {memory.tokens} tokens{each}", box=None, pad_edge=False)
    table.add_column("in all", justify="right")
    table.add_column("at the peak", justify="right")
    weights = sum(memory.weights.values())
    formats = " + ".join(name for name, count in memory.weights.items() if count > weights / 1000)
    for name, count, part in (
        (f"weights ({formats})", weights, "weights"),
        ("gradients", memory.gradients, "gradients"),
        ("Adam's moments", memory.moments, "moments"),
        ("kept for the backward pass", memory.kept, "kept"),
        ("temporaries (the largest, all)", memory.largest_temporary, "temporaries"),
    ):
        table.add_row(name, sizes.shown(count), sizes.shown(memory.at_peak[part]))
    if workspaces := memory.at_peak["workspaces"]:
        table.add_row("workspaces of cuBLAS", sizes.shown(workspaces), sizes.shown(workspaces))
    table.add_row(f"peak ({memory.peak_in})", "", sizes.shown(memory.peak))
    terminal.show(table)


def _show_fits(fits: "Sequence[Fit]", limit: int) -> None:
    """Print the largest batches that fit."""
    from rich.table import Table

    from molex_cli.runtime import terminal

    table = Table(f"fits into {sizes.shown(limit)}", "set", box=None, pad_edge=False)
    table.add_column("peak", justify="right")
    for fit in fits:
        name = " ".join(fit.settings) or "as set"
        if fit.batch_size is None:
            table.add_row(name, "nothing", f"{sizes.shown(fit.peak)} for one row")
        else:
            table.add_row(name, fit.batch, sizes.shown(fit.peak))
    terminal.show(table)
