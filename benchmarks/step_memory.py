"""Predicted against measured peak memory of a training step, each measured in a process of its own.

    python benchmarks/step_memory.py [--models minilm smollm2_135m] [--methods lora ...] [--rows 4 16 32] [--set K=V]

prints the table of docs/performance.md. Real steps of the training loop, on random tokens. What is measured:

allocator  on a CPU, the peak of what torch's allocator gave and had not got back in the third step (its own reports,
           through torch.profiler), plus the storages that lived when the step began. On a GPU,
           torch.cuda.max_memory_allocated. The prediction is of this.
RSS        what the process grew by at its peak (VmHWM) from before the model was loaded, after steps of a tiny model
           had loaded the libraries' code: with every tensor of 64 KiB or more mapped by itself, so that what is
           freed is given back; and, in brackets, with glibc's heap as a run has it.
"""

import argparse
import gc
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MIB = 2**20
METHODS = ("bitfit", "lora", "mola_inverted", "molex", "full")
TINY = {"minilm": "tiny_bert", "smollm2_135m": "tiny_llama"}
OWN_MAPS = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000", "MALLOC_TRIM_THRESHOLD_": "65536"}
LABELS = ["no", "yes"]


def settings_of(
    model: str, method: str, rows: int, tokens: int, recompute: bool, others: Sequence[str] = ()
) -> list[str]:
    """Return the settings of a run."""
    sizes = [f"train.batch_size={rows}", f"train.max_length={tokens}", "train.max_steps=3", "train.eval_batch_size=1"]
    again = f"hardware.activation_checkpointing={str(recompute).lower()}"
    return [f"model={model}", f"method={method}", *others, *sizes, again]


def experiment_of(settings: Sequence[str]) -> Any:
    """Return the experiment of the settings."""
    from molex_cli.config import command_line, overrides

    return overrides.checked(command_line.CommandLine(overrides=list(settings)))


def predicted(settings: Sequence[str], rows: int) -> int:
    """Return the planned peak."""
    from molex_cli.training.memory.rehearsal import Rehearsal

    return Rehearsal(experiment_of(settings), LABELS).step(rows).peak


def real_steps(settings: Sequence[str], *, choices_assumed: bool = False) -> Any:
    """Build the run that the settings describe, on random tokens, and return its training steps."""
    import numpy as np

    from molex_cli.checkpoints import adapter
    from molex_cli.data.encoding import NONE, Encoded
    from molex_cli.methods.placement import place
    from molex_cli.objectives import build_objective
    from molex_cli.runtime import hardware
    from molex_cli.training.loop import Training, steps

    experiment = experiment_of(settings)
    accelerator = hardware.accelerator(experiment.hardware)
    adapted = adapter.adapt(experiment, LABELS)
    if choices_assumed:
        adapted.assume_choices()
    place(adapted, experiment.hardware, accelerator)
    for parameter in adapted.model.parameters():
        float(parameter.detach().flatten()[::512].sum())  # weights are mapped from their file: read every page
    count, tokens = 3 * experiment.train.batch_size, experiment.train.max_length
    drawn = np.random.default_rng(0).integers(5, adapted.model.config.vocab_size, count * tokens)
    offsets = np.arange(count + 1) * tokens
    encoded = Encoded(["x"] * count, [0, 1] * (count // 2), drawn, NONE, offsets)
    objective = build_objective(experiment.task, experiment.model, LABELS)
    training = Training.of(adapted, experiment.train, experiment.learning_rate)
    return steps(training, objective, encoded, experiment.train, seed=0, accelerator=accelerator)


def measured(settings: list[str]) -> dict[str, int]:
    """Return the peaks of this process."""
    import torch

    from molex_cli.runtime import hardware

    if OWN_MAPS.keys() <= os.environ.keys():
        hardware.keep_freed_memory = lambda: None
    warm_up(settings)
    before = resident("VmRSS")
    run = real_steps(settings)
    Path("/proc/self/clear_refs").write_text("5")
    next(run)
    next(run)
    grown = resident("VmHWM") - before
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        next(run)
        return {"allocator": torch.cuda.max_memory_allocated(), "rss": grown}
    return {"allocator": held() + allocated_by(run), "rss": grown}


def warm_up(settings: list[str]) -> None:
    """Do steps of a tiny model, so that the code that they need is in memory."""
    model = settings[0].removeprefix("model=")
    for _ in real_steps(
        [f"model={TINY.get(model, 'tiny_bert')}", *settings[1:2], "train.max_length=16", "train.max_steps=2"]
    ):
        pass
    gc.collect()


def held() -> int:
    """Return the bytes of the storages of all tensors that live; fake ones of a plan have none."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if isinstance(each, torch.Tensor) and not isinstance(each, FakeTensor):
            storages[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(storages.values())


def allocated_by(run: Any) -> int:
    """Return how far what torch's allocator has given grows in the next step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        next(run)
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes), default=0)


def resident(field: str) -> int:
    """Return a field of this process's status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024


def in_own_process(settings: list[str], extra: dict[str, str]) -> dict[str, int]:
    """Return what a fresh process measures."""
    command = [sys.executable, __file__, "--measure", *settings]
    environment = {**os.environ, **extra}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["minilm", "smollm2_135m"])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--rows", nargs="+", type=int, default=[4, 16, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings of all runs")
    parser.add_argument("--heap", action="store_true", help="also with glibc's heap as a run has it, in brackets")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure)))
        return
    from molex_cli.errors import MolexError

    print("| model | method | rows | recomputed | predicted MiB | allocator | RSS | predicted / allocator | / RSS |")
    print("|---|---|---:|---|---:|---:|---:|---:|---:|")
    for model, method, rows, recompute in itertools.product(
        options.models, options.methods, options.rows, (False, True)
    ):
        settings = settings_of(model, method, rows, options.tokens, recompute, options.set)
        try:
            plan = predicted(settings, rows)
        except MolexError:  # BitFit on a model without biases
            continue
        found = in_own_process(settings, OWN_MAPS)
        heap = f" ({in_own_process(settings, {})['rss'] / MIB:.0f})" if options.heap else ""
        sizes = f"{plan / MIB:.0f} | {found['allocator'] / MIB:.0f} | {found['rss'] / MIB:.0f}{heap}"
        ratios = f"{plan / found['allocator']:.3f} | {plan / found['rss']:.3f}"
        print(f"| {model} | {method} | {rows} | {'yes' if recompute else 'no'} | {sizes} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
