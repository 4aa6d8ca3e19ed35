"""`molex bench`: step time and memory of methods, as ratios."""

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.cli import bench_inference
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError, MolexError

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment
    from molex_cli.cost.training_step import Arm

SUMMARY = "step time and memory as ratios to BitFit, PEFT's LoRA and a loop over experts; --inference: of answering"


def main(argv: list[str]) -> int:
    """Measure the chosen methods against BitFit, PEFT's LoRA and a loop over experts."""
    parser = Parser(
        "bench",
        "Step time and peak memory of training, as ratios: to BitFit (the frozen floor), to PEFT's LoRA "
        "at the same total rank where peft is installed, to a loop over experts, and for MoLEx to its inner method.",
        epilog="example: molex bench --methods mola_inverted lora --dropout 0.05 0",
    )
    parser.add_overrides()
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="methods to measure (default: the method=)")
    parser.add_argument("--dropout", nargs="+", type=float, metavar="P", help="adapter dropouts, a table for each")
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch (default 16)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a row (default 64)")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each arm (default 15)")
    parser.add_argument("--no-memory", action="store_true", help="leave out memory, which takes a process an arm")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    bench_inference.add_arguments(parser)
    options = parser.parse(argv)
    for name in ("rows", "tokens", "rounds"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not all(0 <= dropout < 1 for dropout in options.dropout or []):
        raise ConfigError(f"--dropout must be at least 0 and below 1, got {options.dropout}")
    bench_inference.refuse_mixed(options)
    if options.inference:
        return bench_inference.main(options, _experiments(options))
    experiments = _experiments(options)

    from molex_cli.cost import training_step

    work = training_step.Load(rows=options.rows, tokens=options.tokens, rounds=options.rounds)
    if options.memory_of:
        at = [_with_dropout(experiment, (options.dropout or [None])[0]) for experiment in experiments]
        print(training_step.peak_memory(options.memory_of, at, work))
        return 0
    report = []
    for dropout in options.dropout or [None]:
        at = [_with_dropout(experiment, dropout) for experiment in experiments]
        arms = training_step.measured(at, work)
        if not options.no_memory and Path("/proc/self/clear_refs").exists():
            training_step.with_memory(arms, {arm.name: _memory(arm.name, argv, dropout) for arm in arms})
        report.append({"dropout": dropout, "arms": arms})
        if not options.json:
            _print(arms, experiments[0], dropout, work.rows, work.tokens)
    if options.json:
        print(json.dumps([entry | {"arms": [dataclasses.asdict(arm) for arm in entry["arms"]]} for entry in report]))
    return 0


def _experiments(options: argparse.Namespace) -> "list[Experiment]":
    """Return the method= where it is measured, which it is unless --methods replaces it, then each of --methods."""
    lines = [options.overrides] if options.inference or not options.methods else []
    lines += [[*options.overrides, f"method={method}"] for method in options.methods or ()]
    return [overrides.checked(command_line.CommandLine(overrides=line)) for line in lines]


def _with_dropout(experiment: "Experiment", dropout: float | None) -> "Experiment":
    """Return the experiment with this dropout in its adapters, where it has any."""
    if dropout is None:
        return experiment
    return dataclasses.replace(experiment, method=experiment.method.with_dropout(dropout))


def _memory(name: str, argv: list[str], dropout: float | None) -> int:
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


def _print(arms: "list[Arm]", experiment: "Experiment", dropout: float | None, rows: int, tokens: int) -> None:
    from rich.console import Console
    from rich.table import Table

    others = list(arms[0].time_ratio)
    title = f"{experiment.model.name}, {rows} x {tokens} tokens"
    table = Table(title=title if dropout is None else f"{title}, adapter dropout {dropout:g}", box=None, pad_edge=False)
    table.add_column("arm")
    table.add_column("ms a step", justify="right")
    for other in others:
        table.add_column(f"x {other}", justify="right")
    if arms[0].memory_bytes is not None:
        table.add_column("peak MB", justify="right")
        for other in others[:2]:
            table.add_column(f"x {other}", justify="right")
    for arm in arms:
        cells = [arm.name, f"{arm.milliseconds:.0f}", *(f"{arm.time_ratio[other]:.2f}" for other in others)]
        if arm.memory_bytes is not None:
            cells += [f"{arm.memory_bytes / 1e6:.0f}", *(f"{arm.memory_ratio[other]:.2f}" for other in others[:2])]
        table.add_row(*cells)
    terminal = Console(highlight=False)
    if not terminal.is_terminal:  # a file has no width to fit the table to
        terminal.width = 120
    terminal.print(table)
