"""The arms of a bench and what they do: one training step on random tokens, where and how the settings compute.

The frozen floor is BitFit: a step in which next to nothing but the backbone itself is computed. Every arm, PEFT's too,
has the same base in the same format and the same precision; what is trained stays in float32.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from molex_cli.config import schema
from molex_cli.config.train import Train
from molex_cli.errors import MethodError
from molex_cli.methods.base import Adapted, Group, Inject
from molex_cli.methods.bitfit import BitFit
from molex_cli.methods.head import Head
from molex_cli.methods.mola import LOOP
from molex_cli.methods.placement import place
from molex_cli.models.loading import load, skeleton
from molex_cli.models.settings import Model
from molex_cli.models.structure import Backbone
from molex_cli.runtime import hardware
from molex_cli.runtime.hardware import Base, Hardware, random_stream
from molex_cli.training.loop import optimizer

FLOOR, PEFT = "bitfit (floor)", "peft lora"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What every step computes."""

    rows: int = 16
    tokens: int = 64
    rounds: int = 15


@dataclass(frozen=True)
class Step:
    """One training step of an arm, whole or in its two parts."""

    loss: Callable[[], Tensor]
    adam: torch.optim.Optimizer

    def __call__(self) -> None:
        """Do the whole step."""
        self.backward()
        self.update()

    def backward(self) -> None:
        """Do the forward and the backward pass."""
        self.loss().backward()

    def update(self) -> None:
        """Let the optimizer use the gradients and drop them."""
        self.adam.step()
        self.adam.zero_grad()


def arms_of(experiments: Sequence[schema.Experiment], *, loop: bool = True) -> dict[str, Inject]:
    """Return the arms of a bench: the floor, PEFT where installed, each method, and what these are held against.

    Without `loop`, not the loop over experts.
    """
    first = experiments[0]
    arms: dict[str, Inject] = {FLOOR: floor}
    if find_spec("peft") and first.method.low_rank():
        arms[PEFT] = partial(_peft, experiment=first)
    for experiment in experiments:
        for name, inject in experiment.method.bench_arms().items():
            arms.setdefault(name, inject)  # two methods of MoLA share one loop
    return arms if loop else {name: inject for name, inject in arms.items() if name != LOOP}


def floor(backbone: Backbone) -> Adapted:
    """Put in BitFit or, where there are no biases, train the head, whose backward pass ends there."""
    try:
        return BitFit().inject(backbone)
    except MethodError:
        return Head().inject(backbone)


def yardsticks(experiments: Sequence[schema.Experiment], measured: Container[str]) -> list[str]:
    """Return the arms that all are held against, as far as they are measured."""
    known = [FLOOR, PEFT, *(name for experiment in experiments for name in experiment.method.yardsticks)]
    return [name for name in dict.fromkeys(known) if name in measured]


def stepper(name: str, experiments: Sequence[schema.Experiment], work: Load, *, random_weights: bool = False) -> Step:
    """Return what does a training step of the arm, which lies where and how the first experiment's settings say."""
    first = experiments[0]
    accelerator = hardware.accelerator(first.hardware)  # one an arm: it refers to the models that it prepared
    backbone = _random(first.model, first.hardware, accelerator.device) if random_weights else _loaded(first)
    with random_stream(0, "adapters"):
        adapted = arms_of(experiments)[name](backbone)
    _in_float32(adapted)
    place(adapted, first.hardware, accelerator)
    return training_step(adapted, work)


def training_step(adapted: Adapted, work: Load) -> Step:
    """Return what does one training step on random tokens."""
    adam = optimizer(adapted, 1e-4, Train())
    return Step(losses(adapted, work), adam)


def losses(adapted: Adapted, work: Load, *, masked: bool = True) -> Callable[[], Tensor]:
    """Return a function that computes the loss of random tokens, the balance loss in it.

    Without a mask that says so, no token is padding either: a model is spared a look at values.
    """
    model = adapted.model
    model.train()
    with random_stream(0, "data/0"):
        ids = torch.randint(5, model.config.vocab_size, (work.rows, work.tokens))
        labels = torch.randint(0, 2, (work.rows,))
    device = next(model.parameters()).device
    ids, labels = ids.to(device), labels.to(device)
    mask = {"attention_mask": torch.ones_like(ids)} if masked else {}

    def loss() -> Tensor:
        task: Tensor = model(input_ids=ids, labels=labels, **mask).loss
        balance = adapted.auxiliary_loss()
        return task if balance is None or not adapted.balance else task + adapted.balance * balance

    return loss


def _loaded(experiment: schema.Experiment) -> Backbone:
    cache_dir = Path(experiment.cache_dir) if experiment.cache_dir else None
    return load(experiment.model, 2, seed=0, cache_dir=cache_dir)


def _random(model: Model, settings: Hardware, device: torch.device) -> Backbone:
    """Return the model with random weights, made on its device in the format of the base: no file, no second copy."""
    dtype = torch.float32 if settings.base is Base.fp32 else torch.bfloat16  # 4 bits are made from 16
    with random_stream(0, "backbone"):
        backbone = skeleton(model, 2, str(device), dtype)
    config = backbone.model.config
    config.pad_token_id, config.use_cache = config.pad_token_id or 0, False
    return backbone


def _in_float32(adapted: Adapted) -> None:
    """Keep what is trained, and all biases and norms, in float32, as a run does whatever the format of its base."""
    for parameter in adapted.model.parameters():
        if parameter.dtype is torch.bfloat16 and (parameter.requires_grad or parameter.ndim < 2):
            parameter.data = parameter.data.float()


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
