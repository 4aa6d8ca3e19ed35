"""How long a training step takes and how much memory it needs, as ratios within one run.

The arms take turns step by step, so that what else the machine does hits all of them alike. The frozen
floor is BitFit: a step in which next to nothing but the backbone itself is computed.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from molex_cli.config import schema
from molex_cli.config.train import Train
from molex_cli.errors import MethodError
from molex_cli.methods.base import Adapted, Group, Inject
from molex_cli.methods.bitfit import BitFit
from molex_cli.methods.head import Head
from molex_cli.models.loading import load
from molex_cli.models.structure import Backbone
from molex_cli.runtime import hardware
from molex_cli.runtime.hardware import random_stream
from molex_cli.training.loop import optimizer

FLOOR, PEFT = "bitfit (floor)", "peft lora"
WARM_UP_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Load:
    """What every step computes."""

    rows: int = 16
    tokens: int = 64
    rounds: int = 15


@dataclass(kw_only=True)
class Arm:
    """What was measured of one arm."""

    name: str
    milliseconds: float
    """Median over the rounds."""
    middle_half_milliseconds: tuple[float, float]
    """What the middle half of the rounds took, from its least to its most."""
    tokens_per_second: float
    time_ratio: dict[str, float] = field(default_factory=dict)
    """To the floor, to PEFT and to the yardsticks of the methods."""
    memory_bytes: int | None = None
    """Peak of a process of its own over what it held before the model was loaded."""
    memory_ratio: dict[str, float] = field(default_factory=dict)


def arms_of(experiments: Sequence[schema.Experiment]) -> dict[str, Inject]:
    """Return the arms of a bench: the floor, PEFT where installed, each method, and what these are held against."""
    first = experiments[0]
    arms: dict[str, Inject] = {FLOOR: floor}
    if find_spec("peft") and first.method.low_rank():
        arms[PEFT] = partial(_peft, experiment=first)
    for experiment in experiments:
        for name, inject in experiment.method.bench_arms().items():
            arms.setdefault(name, inject)  # two methods of MoLA share one loop
    return arms


def floor(backbone: Backbone) -> Adapted:
    """Put in BitFit or, where there are no biases, train the head, whose backward pass ends there."""
    try:
        return BitFit().inject(backbone)
    except MethodError:
        return Head().inject(backbone)


def yardsticks(experiments: Sequence[schema.Experiment]) -> list[str]:
    """Return the arms that all are held against, as far as they are measured."""
    arms = arms_of(experiments)
    known = [FLOOR, PEFT, *(name for experiment in experiments for name in experiment.method.yardsticks)]
    return [name for name in dict.fromkeys(known) if name in arms]


def measured(experiments: Sequence[schema.Experiment], work: Load) -> list[Arm]:
    """Return the median step time of each arm, in the order of `arms_of`."""
    steppers = {name: stepper(name, experiments, work) for name in arms_of(experiments)}
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(WARM_UP_ROUNDS + work.rounds):
        for name, step in steppers.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values[WARM_UP_ROUNDS:]) for name, values in seconds.items()}
    return [
        Arm(
            name=name,
            milliseconds=median * 1000,
            middle_half_milliseconds=middle_half(seconds[name][WARM_UP_ROUNDS:]),
            tokens_per_second=work.rows * work.tokens / median,
            time_ratio={other: median / medians[other] for other in yardsticks(experiments)},
        )
        for name, median in medians.items()
    ]


def middle_half(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the quartiles of some times, in milliseconds."""
    if len(seconds) == 1:
        return seconds[0] * 1000, seconds[0] * 1000
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low * 1000, high * 1000


def with_memory(arms: Sequence[Arm], bytes_of: dict[str, int]) -> None:
    """Fill in memory and its ratios."""
    for arm in arms:
        arm.memory_bytes = bytes_of[arm.name]
        arm.memory_ratio = {other: arm.memory_bytes / bytes_of[other] for other in arm.time_ratio}


def peak_memory(name: str, experiments: Sequence[schema.Experiment], work: Load) -> int:
    """Return the bytes that building this arm and three steps of it add to this process at their peak."""
    hardware.keep_freed_memory()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    step = stepper(name, experiments, work)
    for _ in range(3):
        step()
    return _resident("VmHWM") - before


def stepper(name: str, experiments: Sequence[schema.Experiment], work: Load) -> Callable[[], None]:
    """Return a function that does one training step of the arm."""
    hardware.keep_freed_memory()
    with random_stream(0, "adapters"):
        adapted = _adapted(name, experiments)
    return training_step(adapted, work)


def training_step(adapted: Adapted, work: Load) -> Callable[[], None]:
    """Return a function that does one training step on random tokens."""
    adam = optimizer(adapted, 1e-4, Train())
    loss = losses(adapted, work)

    def step() -> None:
        loss().backward()
        adam.step()
        adam.zero_grad()

    return step


def losses(adapted: Adapted, work: Load, *, masked: bool = True) -> Callable[[], torch.Tensor]:
    """Return a function that computes the loss of random tokens, the balance loss in it.

    Without a mask that says so, no token is padding either: a model is spared a look at values.
    """
    model = adapted.model
    model.train()
    with random_stream(0, "data/0"):
        ids = torch.randint(5, model.config.vocab_size, (work.rows, work.tokens))
        labels = torch.randint(0, 2, (work.rows,))
    mask = {"attention_mask": torch.ones_like(ids)} if masked else {}

    def loss() -> torch.Tensor:
        task: torch.Tensor = model(input_ids=ids, labels=labels, **mask).loss
        balance = adapted.auxiliary_loss()
        return task if balance is None or not adapted.balance else task + adapted.balance * balance

    return loss


def _adapted(name: str, experiments: Sequence[schema.Experiment]) -> Adapted:
    first = experiments[0]
    backbone = load(first.model, 2, seed=0, cache_dir=Path(first.cache_dir) if first.cache_dir else None)
    return arms_of(experiments)[name](backbone)


def _peft(backbone: Backbone, experiment: schema.Experiment) -> Adapted:
    """Give the backbone PEFT's LoRA, at the total rank of the experiment's mean layer."""
    from peft import LoraConfig, get_peft_model

    update = experiment.method.low_rank()
    assert update is not None
    rank = update.rank
    if experts := experiment.method.experts_per_layer(backbone.num_layers):
        rank = max(1, round(rank * sum(experts) / len(experts)))
    if ranks := experiment.method.rank_per_layer(backbone.num_layers):
        rank = max(1, round(sum(ranks) / len(ranks)))
    config = LoraConfig(
        r=rank,
        lora_alpha=update.scale * rank,
        lora_dropout=update.dropout,
        target_modules=[linear.name for linear in backbone.targets(update.targets)],
        task_type="SEQ_CLS",
    )
    backbone.model = get_peft_model(backbone.model, config)
    trained = {name: p for name, p in backbone.model.named_parameters() if p.requires_grad}
    return Adapted(backbone=backbone, groups=[Group(name="peft", parameters=trained)])


def _resident(field_name: str) -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field_name))
    return int(line.split()[1]) * 1024
