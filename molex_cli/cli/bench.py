"""`molex bench`: step time and memory of methods, as ratios."""

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.analysis.allocating import frozen
from molex_cli.cli import bench_inference, bench_operations
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError, MolexError
from molex_cli.records import as_json
from molex_cli.runtime.load import Load
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment
    from molex_cli.cost.training_step import Arm
    from molex_cli.cost.training_step import Load as Work

SUMMARY = "measure time and memory of a training step, or with --inference of an answer, as ratios to other methods"


def main(argv: list[str]) -> int:
    """Measure the chosen methods against BitFit, PEFT's LoRA and a loop over experts."""
    options = _parser().parse(argv)
    _check(options)
    experiments = _experiments(options)
    if options.inference:
        return bench_inference.main(options, experiments)

    from molex_cli.cost import training_step

    work = training_step.Load(rows=options.rows, tokens=options.tokens, rounds=options.rounds)
    if options.memory_of:
        dropout = (options.dropout or [None])[0]
        say(training_step.peak_memory(options.memory_of, _with_dropout(experiments, dropout), work))
        return 0
    report, load = [], Load()
    for dropout in options.dropout or [None]:
        variants, title = _with_dropout(experiments, dropout), _title(experiments[0], work, dropout)
        if options.operations:
            counted = bench_operations.report(variants, work)
            report.append({"dropout": dropout, "arms": counted})
            if not options.json:
                bench_operations.show_arms(counted, title)
            continue
        arms = _measured(variants, work, options, argv, dropout)
        measured = {"arms": [dataclasses.asdict(arm) for arm in arms], "load": dataclasses.asdict(load.ended())}
        report.append({"dropout": dropout, **measured})
        if not options.json:
            _print(arms, title)
    if options.json:
        say(as_json(report))
    if not options.operations and (warning := load.warning()):
        say(warning, file=sys.stderr)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "bench",
        "Step time and peak memory of training, as ratios: to BitFit (the frozen floor), to PEFT's LoRA "
        "at the same total rank where peft is installed, to a loop over experts, and for MoLEx to its inner method.",
        examples=(
            "molex bench --methods mola_inverted lora --dropout 0.05 0",
            "molex bench --operations model=llama2_7b",
            "molex bench --inference model=smollm2_135m --plot cost.svg",
        ),
    )
    parser.add_overrides()
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="methods to measure (default: the method=)")
    parser.add_argument("--dropout", nargs="+", type=float, metavar="P", help="adapter dropouts, a table for each")
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch (default 16)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a row (default 64)")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each arm (default 15)")
    parser.add_argument("--no-memory", action="store_true", help="leave out memory, which takes a process an arm")
    parser.add_argument(
        "--operations", action="store_true", help="count the operations of a step instead, for a model of any size"
    )
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    bench_inference.add_arguments(parser)
    return parser


def _check(options: argparse.Namespace) -> None:
    """Raise ConfigError for flags that cannot be measured."""
    for name in ("rows", "tokens", "rounds"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not all(0 <= dropout < 1 for dropout in options.dropout or []):
        raise ConfigError(f"--dropout must be at least 0 and below 1, got {options.dropout}")
    if options.operations and options.inference:
        raise ConfigError("--operations must be left out with --inference, got both; a training step is counted")
    bench_inference.refuse_mixed(options)


def _experiments(options: argparse.Namespace) -> "list[Experiment]":
    """Return the method= where it is measured, which it is unless --methods replaces it, then each of --methods."""
    lines = [options.overrides] if options.inference or not options.methods else []
    lines += [[*options.overrides, f"method={method}"] for method in options.methods or ()]
    return [frozen(overrides.checked(command_line.CommandLine(overrides=line))) for line in lines]


def _with_dropout(experiments: "Sequence[Experiment]", dropout: float | None) -> "list[Experiment]":
    """Return the experiments with this dropout in their adapters, where they have any."""
    if dropout is None:
        return list(experiments)
    return [dataclasses.replace(each, method=each.method.with_dropout(dropout)) for each in experiments]


def _measured(
    experiments: "Sequence[Experiment]",
    work: "Work",
    options: argparse.Namespace,
    argv: Sequence[str],
    dropout: float | None,
) -> "list[Arm]":
    """Return the step time of every arm and, where the system tells a process its peak, the memory."""
    from molex_cli.cost import training_step

    arms = training_step.measured(experiments, work)
    if not options.no_memory and Path("/proc/self/clear_refs").exists():
        training_step.with_memory(arms, {arm.name: _memory(arm.name, argv, dropout) for arm in arms})
    return arms


def _memory(name: str, argv: Sequence[str], dropout: float | None) -> int:
    """Return the peak memory of one arm, measured in a process of its own."""
    kept = list(argv)
    if "--dropout" in kept:
        start = kept.index("--dropout")
        end = next((i for i in range(start + 1, len(kept)) if not _is_number(kept[i])), len(kept))
        kept[start:end] = ["--dropout", str(dropout)]
    command = [sys.executable, "-m", "molex_cli", "bench", f"--memory-of={name}", *kept]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MolexError(f"memory of {name} must be measurable, got: {done.stderr.strip().splitlines()[-1]}")
    return int(done.stdout.split()[-1])


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _title(experiment: "Experiment", work: "Work", dropout: float | None) -> str:
    title = f"{experiment.model.name}, {work.rows} x {work.tokens} tokens"
    return title if dropout is None else f"{title}, adapter dropout {dropout:g}"


def _print(arms: "list[Arm]", title: str) -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import show

    others = list(arms[0].time_ratio)
    table = Table(title=title, box=None, pad_edge=False)
    table.add_column("arm")
    memory = [] if arms[0].memory_bytes is None else ["peak MB", *(f"x {other}" for other in others[:2])]
    for column in ("ms a step", "middle half", *(f"x {other}" for other in others), *memory):
        table.add_column(column, justify="right")
    for arm in arms:
        spread = "–".join(f"{each:.0f}" for each in arm.middle_half_milliseconds)
        cells = [arm.name, f"{arm.milliseconds:.0f}", spread, *(f"{arm.time_ratio[other]:.2f}" for other in others)]
        if arm.memory_bytes is not None:
            cells += [f"{arm.memory_bytes / 1e6:.0f}", *(f"{arm.memory_ratio[other]:.2f}" for other in others[:2])]
        table.add_row(*cells)
    show(table)
