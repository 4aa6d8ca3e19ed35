"""`molex bench`: step time and memory of methods, as ratios."""

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.analysis.allocating import frozen
from molex_cli.cli import bench_conditions, bench_inference, bench_launches, bench_operations
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError, MolexError
from molex_cli.records import as_json
from molex_cli.runtime.load import Load
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment
    from molex_cli.cost.measuring import Bench

SUMMARY = "measure time and memory of a training step, or with --inference of an answer, as ratios to other methods"
OTHERS = {"operations": bench_operations, "launches": bench_launches}


def main(argv: list[str]) -> int:
    """Measure the chosen methods against BitFit, PEFT's LoRA and a loop over experts."""
    options = _parser().parse(argv)
    _check(options)
    experiments = _experiments(options)
    bench_conditions.check(experiments[0].hardware)
    if options.inference:
        return bench_inference.main(options, experiments)

    from molex_cli.cost import measuring

    options.loop = not (options.no_loop or options.operations)
    if options.memory_of:
        say(measuring.peak_memory(_bench(options, experiments, (options.dropout or [None])[0]), options.memory_of))
        return 0
    measure = next((each for name, each in OTHERS.items() if getattr(options, name)), None)
    report, load = [], Load()
    for dropout in options.dropout or [None]:
        bench = _bench(options, experiments, dropout)
        arms = measure.report(bench) if measure else _measured(bench, options, argv, dropout)
        about = bench_conditions.of(bench, counted=options.operations)
        report.append({"dropout": dropout, "conditions": about, "arms": arms})
        if not measure:
            report[-1]["load"] = dataclasses.asdict(load.ended())
        if not options.json:
            (measure.show_arms if measure else _print)(arms, bench_conditions.title(about, dropout))
    if options.json:
        say(as_json(report))
    if not measure and (warning := load.warning(in_turn=about["device"] == "cpu")):
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
            "molex bench --random-weights model=llama2_7b hardware=gpu hardware.base=bf16 --rows 4 --tokens 512",
            "molex bench --launches hardware=gpu --methods mola_inverted lora",
            "molex bench --inference model=smollm2_135m --plot cost.svg",
        ),
    )
    parser.add_overrides()
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="methods to measure (default: the method=)")
    parser.add_argument("--dropout", nargs="+", type=float, metavar="P", help="adapter dropouts, a table for each")
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch (default 16)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a row (default 64)")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each arm (default 15)")
    parser.add_argument(
        "--no-memory", action="store_true", help="on a CPU, leave out memory, which takes a process an arm"
    )
    parser.add_argument("--no-loop", action="store_true", help="leave out the loop over experts, which is slow")
    parser.add_argument(
        "--random-weights", action="store_true", help="make the base's weights on the device, of no files: any model="
    )
    parser.add_argument(
        "--operations", action="store_true", help="count the operations of a step instead, for a model of any size"
    )
    parser.add_argument(
        "--launches", action="store_true", help="count the kernels that a GPU launches in a step instead"
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
    for name in OTHERS:
        if getattr(options, name) and options.inference:
            raise ConfigError(f"--{name} must be left out with --inference, got both; a training step is counted")
    if options.operations and options.launches:
        raise ConfigError("--operations must be left out with --launches, got both; each has its own count")
    if options.operations and options.random_weights:
        raise ConfigError("--random-weights must be left out with --operations, got both; no weights are needed there")
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


def _bench(options: argparse.Namespace, experiments: "Sequence[Experiment]", dropout: float | None) -> "Bench":
    from molex_cli.cost.measuring import Bench
    from molex_cli.cost.training_step import Load as Work

    work = Work(rows=options.rows, tokens=options.tokens, rounds=options.rounds)
    variants = _with_dropout(experiments, dropout)
    return Bench(variants, work, loop=options.loop, random_weights=options.random_weights)


def _measured(
    bench: "Bench", options: argparse.Namespace, argv: Sequence[str], dropout: float | None
) -> list[dict[str, Any]]:
    """Return the step time of every arm and, where the system tells it, the peak memory."""
    from molex_cli.cost import measuring

    arms = measuring.measured(bench)
    on_gpu = arms[0].memory_bytes is not None
    if not options.no_memory and not on_gpu and Path("/proc/self/clear_refs").exists():
        measuring.with_memory(arms, {arm.name: _memory(arm.name, argv, dropout) for arm in arms})
    return [dataclasses.asdict(arm) for arm in arms]


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


def _print(arms: Sequence[dict[str, Any]], title: str) -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import show

    others = list(arms[0]["time_ratio"])
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("arm")
    has_memory = arms[0]["memory_bytes"] is not None
    memory = ["peak MB", *(f"x {other}" for other in others[:2])] if has_memory else []
    for column in ("ms a step", "middle half", *(f"x {other}" for other in others), *memory):
        table.add_column(column, justify="right")
    for arm in arms:
        digits = 0 if arms[0]["milliseconds"] >= 100 else 1
        spread = "–".join(f"{each:.{digits}f}" for each in arm["middle_half_milliseconds"])
        ratios = (f"{arm['time_ratio'][other]:.2f}" for other in others)
        cells = [arm["name"], f"{arm['milliseconds']:.{digits}f}", spread, *ratios]
        if has_memory:
            cells += [f"{arm['memory_bytes'] / 1e6:.0f}", *(f"{arm['memory_ratio'][o]:.2f}" for o in others[:2])]
        table.add_row(*cells)
    show(table)
