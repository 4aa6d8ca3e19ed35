"""`molex plan`: what a method costs on a model, counted without weights."""

from typing import TYPE_CHECKING

from molex_cli.cli import plan_arms, plan_memory
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, overrides
from molex_cli.cost.arms import Budget, add_flags, solved
from molex_cli.cost.estimate import estimated
from molex_cli.errors import ConfigError
from molex_cli.records import as_json
from molex_cli.runtime import sizes
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.cost.estimate import Estimate

SUMMARY = "count experts or ranks per layer, exact parameters and FLOPs of a method; loads no weights"


def main(argv: list[str]) -> int:
    """Print experts per layer, exact parameters by part, and FLOPs per token."""
    parser = Parser(
        "plan",
        "Experts per layer, exact parameters and FLOPs; loads no weights.",
        examples=(
            "molex plan model=llama2_7b method=mola_inverted",
            "molex plan method=mola_inverted --match lora:rank=64",
            "molex plan model=llama2_7b method=lora --fit 24GB",
        ),
    )
    parser.add_overrides()
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_flags(parser)
    parser.add_argument("--memory", action="store_true", help="what a training step holds in memory, by part")
    fit = "the largest divisor of the effective batch that fits into so much memory, e.g. 24GB"
    parser.add_argument("--fit", metavar="SIZE", help=fit)
    options = parser.parse(argv)
    limit = sizes.parsed(options.fit, "--fit") if options.fit is not None else None
    line = command_line.CommandLine(overrides=options.overrides, multirun=bool(options.match))
    jobs, _ = overrides.jobs(line)
    experiment, match = jobs[0].experiment, None
    if options.match:
        wanted = Budget(options.match, options.solve, options.by)
        found = solved(jobs, line, wanted)
        if len(found) > 1:
            if options.memory or limit:
                raise ConfigError(f"--memory and --fit must be given one arm, got {len(found)}; leave them out")
            return plan_arms.show(found, line, wanted, is_json=options.json)
        match, experiment = next(iter(found.values()))
    plan = estimated(experiment, match, memory=options.memory, limit=limit)
    if options.json:
        say(as_json(plan.as_data()))
        return 0
    _print(plan)
    if match:
        say(match.told(options.by, options.match))
    if plan.memory:
        plan_memory.show(plan.experiment, plan.memory)
    return 0


def _print(plan: "Estimate") -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import Terminal, show

    terminal = Terminal(soft_wrap=True)
    experiment = plan.experiment
    terminal.print(f"{experiment.method.display_name} on {experiment.model.name}", style="bold")
    for name, counts in (("experts", plan.experts_per_layer), ("rank", plan.rank_per_layer)):
        if counts:
            terminal.print(f"{name} per layer  {' '.join(map(str, counts))}  total {sum(counts)}")
    parameters = Table("parameters", box=None, pad_edge=False)
    parameters.add_column("count", justify="right")
    parameters.add_column("of total", justify="right")
    total = plan.parameters["total"]
    for part, count in plan.parameters.items():
        name = "added (trainable without head)" if part == "added" else part
        parameters.add_row(name, f"{count:,}", f"{count / total:.3%}")
    show(parameters)
    flops = Table("forward FLOPs per token", box=None, pad_edge=False)
    flops.add_column("blocks", justify="right")
    flops.add_column("of base", justify="right")
    for name, value in plan.flops_per_token.items():
        flops.add_row(name, f"{value:,.0f}", f"{value / plan.flops_per_token['base']:.3f}")
    show(flops)
