"""How long a training step takes and how much memory it needs, as ratios within one run.

The arms take turns step by step, so that what else the machine does hits all of them alike. The frozen
floor is BitFit: a step in which next to nothing but the backbone itself is computed.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from molex_cli.config import schema
from molex_cli.layers.experts import LowRankExperts
from molex_cli.layers.guest_vote import GuestChoice
from molex_cli.layers.reference import LoopExperts
from molex_cli.methods.base import Adapted, Group, Method
from molex_cli.methods.bitfit import BitFit
from molex_cli.methods.lora import LowRank, Update
from molex_cli.methods.mola import MoLA, Router
from molex_cli.methods.molex import Inner, MoLEx
from molex_cli.models.loading import load
from molex_cli.models.structure import Backbone
from molex_cli.runtime import hardware
from molex_cli.runtime.hardware import random_stream
from molex_cli.training.loop import optimizer

FLOOR, PEFT, LOOP = "bitfit (floor)", "peft lora", "loop"
INNER, SELF = "inner of molex", " (all choose self)"
WARM_UP_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Load:
    """What every step computes."""

    rows: int = 16
    tokens: int = 64
    rounds: int = 15


@dataclass(kw_only=True)
class Arm:
    """The figures of one method."""

    name: str
    milliseconds: float
    """Median over the rounds."""
    tokens_per_second: float
    time_ratio: dict[str, float] = field(default_factory=dict)
    """To the floor, to PEFT, to the loop, to MoLEx's inner method alone."""
    memory_bytes: int | None = None
    """Peak of a process of its own over what it held before the model was loaded."""
    memory_ratio: dict[str, float] = field(default_factory=dict)


def arm_names(experiments: Sequence[schema.Experiment]) -> list[str]:
    """Return the arms of a bench: the floor, PEFT where installed, each method, and what these are held against.

    A routed method comes with the loop over experts; MoLEx with its inner method alone, and with all
    gates pinned to their own layers.
    """
    names = [FLOOR]
    if find_spec("peft") and _update(experiments[0].method):
        names.append(PEFT)
    mixing = _mixing(experiments)
    names += [INNER] if mixing else []
    names += [experiment.method.name for experiment in experiments]
    names += [f"{e.method.name}{SELF}" for e in mixing if not getattr(e.method, "compute_self", True)]
    return [*names, *([LOOP] if _routed(experiments) else [])]


def measured(experiments: Sequence[schema.Experiment], work: Load) -> list[Arm]:
    """Return the median step time of each arm, in the order of `arm_names`."""
    steppers = {name: stepper(name, experiments, work) for name in arm_names(experiments)}
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
            tokens_per_second=work.rows * work.tokens / median,
            time_ratio={other: median / medians[other] for other in (FLOOR, PEFT, LOOP, INNER) if other in medians},
        )
        for name, median in medians.items()
    ]


def with_memory(arms: Sequence[Arm], bytes_of: dict[str, int]) -> None:
    """Fill in memory and its ratios."""
    for arm in arms:
        arm.memory_bytes = bytes_of[arm.name]
        arm.memory_ratio = {
            other: arm.memory_bytes / bytes_of[other] for other in (FLOOR, PEFT, LOOP, INNER) if other in bytes_of
        }


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
    adam = optimizer(adapted, 1e-4, 0.0)
    model = adapted.model
    model.train()
    with random_stream(0, "data/0"):
        ids = torch.randint(5, model.config.vocab_size, (work.rows, work.tokens))
        labels = torch.randint(0, 2, (work.rows,))
    mask = torch.ones_like(ids)

    def step() -> None:
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        balance = adapted.auxiliary_loss()
        (loss if balance is None else loss + adapted.balance * balance).backward()
        adam.step()
        adam.zero_grad()

    return step


def _adapted(name: str, experiments: Sequence[schema.Experiment]) -> Adapted:
    first = experiments[0]
    backbone = load(first.model, 2, seed=0, cache_dir=Path(first.cache_dir) if first.cache_dir else None)
    if name == FLOOR:
        return BitFit().inject(backbone)
    if name == PEFT:
        return _peft(backbone, first)
    if name == LOOP:
        return _looped(backbone, _routed(experiments)[0])
    if name == INNER:
        return _mixing(experiments)[0].method.inject_inner(backbone)
    adapted = next(e for e in experiments if e.method.name == name.removesuffix(SELF)).method.inject(backbone)
    if name.endswith(SELF):
        for layer, choice in adapted.routers.items():
            assert isinstance(choice, GuestChoice)
            choice.pinned = layer
    return adapted


def _mixing(experiments: Sequence[schema.Experiment]) -> list[Any]:
    return [e for e in experiments if isinstance(e.method, MoLEx)]


def _update(method: Method) -> Update | None:
    """Return the settings of the low-rank updates that a method trains."""
    if isinstance(method, MoLEx):
        return method.lora if method.inner is Inner.lora else None
    return method if isinstance(method, LowRank) else None


def _routed(experiments: Sequence[schema.Experiment]) -> list[schema.Experiment]:
    return [e for e in experiments if isinstance(e.method, MoLA) and e.method.router is Router.learned]


def _looped(backbone: Backbone, experiment: schema.Experiment) -> Adapted:
    method: Any = experiment.method
    adapted = method.inject(backbone)
    for name, module in list(backbone.model.named_modules()):
        if isinstance(module, LowRankExperts):
            looped = LoopExperts(module, top_k=method.top_k, scale=method.alpha / method.rank, dropout=method.dropout)
            parent, _, last = name.rpartition(".")
            setattr(backbone.model.get_submodule(parent), last, looped)
    adapted.routers = {}
    return adapted


def _peft(backbone: Backbone, experiment: schema.Experiment) -> Adapted:
    """Give the backbone PEFT's LoRA, at the total rank of the experiment's mean layer."""
    from peft import LoraConfig, get_peft_model

    update = _update(experiment.method)
    assert update is not None
    rank = update.rank
    if allocation := getattr(experiment.method, "allocation", None):
        from molex_cli.methods.allocation import experts_per_layer

        experts = experts_per_layer(allocation, backbone.num_layers)
        rank = round(rank * sum(experts) / len(experts))
    config = LoraConfig(
        r=rank,
        lora_alpha=update.alpha / update.rank * rank,
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
