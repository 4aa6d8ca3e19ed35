"""`molex plan`: what a method costs on a model, counted without weights."""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from molex_cli.cli import arguments, overrides

if TYPE_CHECKING:
    from molex_cli.plan import Plan
    from molex_cli.schema import Experiment


def main(argv: list[str]) -> int:
    """Print experts per layer, exact parameters by part, and FLOPs per token."""
    parser = argparse.ArgumentParser(
        prog="molex plan",
        description="Experts per layer, exact parameters and FLOPs; loads no weights.",
        epilog="example: molex plan model=llama2_7b method=mola_inverted",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, as for molex train")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.error = arguments.refuse  # type: ignore[method-assign]
    options = parser.parse_intermixed_args(argv)
    experiment = overrides.checked(arguments.CommandLine(overrides=options.overrides))

    from molex_cli.backbones.loading import skeleton
    from molex_cli.checkpoint import asked
    from molex_cli.objectives import head_outputs
    from molex_cli.plan import ledger

    outputs = head_outputs(experiment.task, asked(experiment), experiment.task.labels or ("", ""))
    adapted = experiment.method.inject(skeleton(experiment.model, outputs))
    plan = ledger(adapted, experiment.train.max_length)
    named = {"model": experiment.model.name, "method": experiment.method.name}
    if options.json:
        print(json.dumps(named | dataclasses.asdict(plan)))
        return 0

    _print(plan, experiment)
    return 0


def _print(plan: "Plan", experiment: "Experiment") -> None:
    from rich.console import Console
    from rich.table import Table

    terminal = Console(highlight=False, soft_wrap=True)
    terminal.print(f"[bold]{experiment.method.display_name}[/bold] on [bold]{experiment.model.name}[/bold]")
    if plan.experts_per_layer:
        shown = " ".join(map(str, plan.experts_per_layer))
        terminal.print(f"experts per layer  {shown}  total {sum(plan.experts_per_layer)}")
    parameters = Table("parameters", box=None, pad_edge=False)
    parameters.add_column("count", justify="right")
    parameters.add_column("of total", justify="right")
    total = plan.parameters["total"]
    for part, count in plan.parameters.items():
        name = "added (trainable without head)" if part == "added" else part
        parameters.add_row(name, f"{count:,}", f"{count / total:.3%}")
    terminal.print(parameters)
    flops = Table("forward FLOPs per token", box=None, pad_edge=False)
    flops.add_column("blocks", justify="right")
    flops.add_column("of base", justify="right")
    for name, value in plan.flops_per_token.items():
        flops.add_row(name, f"{value:,.0f}", f"{value / plan.flops_per_token['base']:.3f}")
    terminal.print(flops)
