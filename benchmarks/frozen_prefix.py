"""A training step that reads what frozen layers give, against steps that compute it: operations, FLOPs, times.

    python benchmarks/frozen_prefix.py model=minilm method=lora
    python benchmarks/frozen_prefix.py model=smollm2_135m method=mola_inverted train.batch_size=4
    python benchmarks/frozen_prefix.py model=minilm method=head

The arms: the method on all layers; on the upper half, computed; on the upper half, read. The method `head` has the
last two alone, on the whole body.
"""

import contextlib
import statistics
import sys
import time
from pathlib import Path

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.config import command_line, overrides, schema
from molex_cli.data.reading import read_all
from molex_cli.methods.placement import place
from molex_cli.runtime import hardware
from molex_cli.tracking.sinks import Sinks
from molex_cli.training import single_task
from molex_cli.training.frozen_prefix import frozen_prefix
from molex_cli.training.loop import Training

ROUNDS, WARM_UP = 15, 3
SETTINGS = [
    "log.wandb=disabled",
    "train.frozen_dropout=false",
    "train.epochs=1000",
    "hardware.device=cpu",
]
VIEWS = ("view", "reshape", "transpose", "permute", "expand", "slice", "select", "split", "detach", "unsqueeze",
         "squeeze", "alias", "as_strided", "t.default", "unbind")  # fmt: skip


class Operations(TorchDispatchMode):
    """Counts operations, those left out that only make views."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not any(str(function).startswith(f"aten.{view}") for view in VIEWS)
        return function(*args, **(kwargs or {}))


def arm(settings, stack):
    """Return a function that takes the next optimizer step of a training that begins now, with its layers."""
    experiment = overrides.checked(command_line.CommandLine(overrides=[*SETTINGS, *settings]))
    (stage,) = single_task.prepared(experiment, read_all(experiment))
    accelerator = hardware.accelerator(experiment.hardware)
    adapted = adapter.adapt(experiment, stage.labels)
    place(adapted, experiment.hardware, accelerator)
    training = Training.of(adapted, experiment.train, experiment.learning_rate)
    record = records.Record(name="", variant="", seed=0, settings=schema.as_data(experiment))
    stack.enter_context(frozen_prefix(adapted, [stage], experiment, accelerator, record, Sinks([])))
    steps = stage.steps(training, accelerator)
    return (lambda: next(steps)), adapted.backbone


def main(settings):
    base = overrides.checked(command_line.CommandLine(overrides=[*SETTINGS, *settings]))
    with contextlib.ExitStack() as stack:
        arms = {}
        if base.method.name != "head":
            arms["all layers"], backbone = arm([*settings, "cache_gb=0"], stack)
            half = backbone.num_layers // 2
            layers = "|".join(map(str, range(half, backbone.num_layers)))
            settings = [*settings, f"method.targets=['{backbone.blocks_name}[.]({layers})[.].*']"]
        arms["computed"], _ = arm([*settings, "cache_gb=0"], stack)
        arms["read"], _ = arm(settings, stack)
        report({name: measured(step) for name, step in arms.items()}, interleaved(arms))


def measured(step):
    """Return operations and FLOPs of one step."""
    with Operations() as operations:
        step()
    with FlopCounterMode(display=False) as flops:
        step()
    return operations.count, flops.get_total_flops()


def interleaved(arms):
    """Return the median seconds of a step; arms take turns, and all have the same rows in the same order."""
    seconds = {name: [] for name in arms}
    for _ in range(WARM_UP + ROUNDS):
        for name, step in arms.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[WARM_UP:]) for name, values in seconds.items()}


def report(counts, seconds):
    """Print a line for each arm, its ratios to the first."""
    first = next(iter(counts))
    for name, (operations, flops) in counts.items():
        took = f"{1000 * seconds[name]:.1f} ms ({seconds[name] / seconds[first]:.3f})"
        work = f"{operations} operations, {flops / 1e9:.2f} GFLOP ({flops / counts[first][1]:.3f})"
        sys.stdout.write(f"{name:>12}: {work}, {took}\n")


if __name__ == "__main__":
    Path("outputs").mkdir(exist_ok=True)
    main(sys.argv[1:])
