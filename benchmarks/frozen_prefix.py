"""A training step that reads what frozen layers give, against steps that compute it: operations, FLOPs, times.

    python benchmarks/frozen_prefix.py model=minilm method=lora
    python benchmarks/frozen_prefix.py model=smollm2_135m method=mola_inverted train.batch_size=4
    python benchmarks/frozen_prefix.py model=minilm method=head
    python benchmarks/frozen_prefix.py --train model=minilm method=lora train.max_rows=256

The arms: the method on all layers; on the upper half, computed; on the upper half, read. The method `head` has the
last two alone, on the whole body. With --train the last two are whole trainings, whose losses and predictions are
compared.
"""

import contextlib
import statistics
import sys
import time

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.config import command_line, overrides, schema
from molex_cli.data.reading import read_all
from molex_cli.methods.placement import place
from molex_cli.models.loading import skeleton
from molex_cli.run import run
from molex_cli.runtime import hardware
from molex_cli.tracking.sinks import Sinks
from molex_cli.training import single_task
from molex_cli.training.frozen_prefix import frozen_prefix
from molex_cli.training.loop import Training

ROUNDS, WARM_UP = 9, 2
SETTINGS = [
    "log.wandb=disabled",
    "train.frozen_dropout=false",
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
    experiment = overrides.checked(command_line.CommandLine(overrides=[*SETTINGS, "train.epochs=1000", *settings]))
    (stage,) = single_task.prepared(experiment, read_all(experiment))
    accelerator = hardware.accelerator(experiment.hardware)
    adapted = adapter.adapt(experiment, stage.labels)
    place(adapted, experiment.hardware, accelerator)
    training = Training.of(adapted, experiment.train, experiment.learning_rate)
    record = records.Record(name="", variant="", seed=0, settings=schema.as_data(experiment))
    stack.enter_context(frozen_prefix(adapted, [stage], experiment, accelerator, record, Sinks([])))
    steps = stage.steps(training, accelerator)
    return lambda: next(steps)


def main(settings):
    """Measure steps or, with --train, whole trainings."""
    if "--train" in settings:
        return trained(upper([each for each in settings if each != "--train"]))
    with contextlib.ExitStack() as stack:
        half = upper(settings)
        arms = {} if half == settings else {"all layers": arm([*settings, "cache_gb=0"], stack)}
        arms |= {"computed": arm([*half, "cache_gb=0"], stack), "read": arm(half, stack)}
        report({name: measured(step) for name, step in arms.items()}, interleaved(arms))


def upper(settings):
    """Return the settings for the upper half of the layers; those of `head` are for the whole body as they are."""
    experiment = overrides.checked(command_line.CommandLine(overrides=[*SETTINGS, *settings]))
    if experiment.method.name == "head":
        return settings
    backbone = skeleton(experiment.model, 2)
    layers = "|".join(map(str, range(backbone.num_layers // 2, backbone.num_layers)))
    return [*settings, f"method.targets=['{backbone.blocks_name}[.]({layers})[.].*']"]


def trained(settings):
    """Train twice, computing and reading, and print how far losses and predictions are apart."""
    found = {}
    for name, limit in (("computed", ["cache_gb=0"]), ("read", [])):
        line = [
            *SETTINGS,
            "train.epochs=2",
            *settings,
            *limit,
            "resume=never",
            f"output_dir=outputs/frozen_prefix_{name}",
        ]
        experiment = overrides.checked(command_line.CommandLine(overrides=line))
        events = Told()
        record = run(experiment, extra_sinks=(events,))
        found[name] = events.losses, events.predictions, record
    (losses, predictions, _), (others, other_predictions, record) = found.values()
    apart = max(abs(one - other) for one, other in zip(losses, others, strict=True))
    differing = sum(one != other for one, other in zip(predictions, other_predictions, strict=True))
    seconds = {name: record.training["seconds"] for name, (*_, record) in found.items()}
    sys.stdout.write(f"{len(losses)} losses at most {apart:.1e} apart, {differing} of {len(predictions)} predictions\n")
    sys.stdout.write(f"{record.frozen_layers}, seconds {seconds}\n")


class Told:
    """Keeps the losses of all steps and evaluations, and the last predictions."""

    def __init__(self):
        self.losses, self.predictions = [], []

    def write(self, event):
        if event.kind in ("step", "evaluated"):
            self.losses.append(event.loss)
        if event.kind == "evaluated":
            self.predictions = [row["prediction"] for row in event.rows]

    def close(self):
        """Do nothing."""


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
    main(sys.argv[1:])
