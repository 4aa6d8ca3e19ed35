"""How many operations a training step is: on a GPU each is a kernel to launch, whatever its size.

Counted are forward and backward pass with the balance loss and the tallies of the routers; not the optimizer, which is
one fused operation for every method, and not operations that only make a view. Tensors are fake (shapes without
memory or values), so that a model of any size is counted in seconds, without weights or a GPU; where the settings mean
a GPU, dropout and attention are the one kernel each that they are there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from molex_cli.config import schema
from molex_cli.cost import training_step
from molex_cli.errors import ConfigError
from molex_cli.layers.guest_vote import TOKEN, GuestVote
from molex_cli.methods.base import Adapted, Inject
from molex_cli.models.loading import skeleton
from molex_cli.models.settings import Model
from molex_cli.runtime.hardware import Device, Hardware
from molex_cli.training.memory.rehearsal import kernels_of, lay_out_fake

ONLY_VIEWS = frozenset({torch.ops.aten._unsafe_view.default})  # a view, though its schema says otherwise
ON_CPU = Hardware(device=Device.cpu)


class OperationCounter(TorchDispatchMode):
    """Counts by name the operations that are done inside it, but those that only make a view."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count an operation and do it."""
        only_view = func.is_view or torch.Tag.inplace_view in func.tags or func in ONLY_VIEWS
        if func.namespace == "aten" and not only_view:  # others, such as prim.device, compute nothing
            self.operations[str(func).removeprefix("aten.")] += 1
        return func(*args, **(kwargs or {}))


@dataclass(kw_only=True)
class Arm:
    """The operations of one arm's step."""

    name: str
    operations: int
    ratio: dict[str, float] = field(default_factory=dict)
    """To the floor, to PEFT and to the yardsticks of the methods."""
    by_name: dict[str, int] = field(default_factory=dict)
    """Each operation, the commonest first."""


def counted(experiments: Sequence[schema.Experiment], work: training_step.Load) -> list[Arm]:
    """Return the operations of each arm's step, in the order of `arms_of`; no loop, whose length the tokens decide."""
    first = experiments[0]
    steps = {
        # PEFT moves what it adds, which fake tensors do not allow: it is put into the model before they are made.
        name: operations(inject, first.model, work, first.hardware, fake_first=name != training_step.PEFT)
        for name, inject in training_step.arms_of(experiments, loop=False).items()
    }
    others = training_step.yardsticks(experiments, steps)
    return [
        Arm(
            name=name,
            operations=found.total(),
            ratio={other: found.total() / steps[other].total() for other in others},
            by_name=dict(found.most_common()),
        )
        for name, found in steps.items()
    ]


def operations(
    inject: Inject,
    model: Model,
    work: training_step.Load,
    settings: Hardware = ON_CPU,
    *,
    fake_first: bool = True,
) -> Counter[str]:
    """Return the operations of one training step by name."""
    backbone = skeleton(model, 2)
    config = backbone.model.config
    config.pad_token_id, config.use_cache = config.pad_token_id or 0, False
    adapted = None if fake_first else inject(backbone)
    with FakeTensorMode(), kernels_of(settings):
        _make_fake(backbone.model)
        adapted = adapted or inject(backbone)
        _choose(adapted)
        lay_out_fake(adapted, settings)
        loss = training_step.losses(adapted, work, masked=False)
        loss().backward()  # what is made once is there
        adapted.model.zero_grad()
        with OperationCounter() as counter:
            loss().backward()
    return counter.operations


def _choose(adapted: Adapted) -> None:
    """Let each layer of MoLEx have one guest for all rows, which is another layer: fake tensors choose nothing."""
    for layer, vote in adapted.routers.items():
        if isinstance(vote, GuestVote) and vote.pinned is None:
            if vote.level == TOKEN:
                raise ConfigError("method.level must be sequence or batch to be counted, got token")
            vote.pinned = next(guest for guest in vote.guests if guest != layer)


def _make_fake(model: nn.Module) -> None:
    """Give the model fake weights in the place of those without a device."""
    made: dict[Tensor, Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            own: dict[str, Any] = tensors
            for name, tensor in own.items():
                if tensor is not None and tensor.device.type == "meta":  # one that is shared stays shared
                    own[name] = made.setdefault(tensor, _fake_like(tensor))


def _fake_like(tensor: Tensor) -> Tensor:
    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
