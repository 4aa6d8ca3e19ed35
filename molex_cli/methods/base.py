"""What all methods share: their settings, and the handles that `inject` returns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hydra.core.config_store import ConfigStore

from molex_cli.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from molex_cli.layers.routing_statistics import Routing, TokenWeights
    from molex_cli.models.structure import Backbone


@dataclass(kw_only=True)
class Method:
    """Settings of one way to fine-tune."""

    starts_at_base: ClassVar[bool] = True
    """Whether an untrained model says what the base model says."""
    solvable: ClassVar[dict[str, str]] = {}
    """What `molex plan --match` may solve for: rank, total or mean of the experts, and the section that has it."""
    name: str
    display_name: str
    """Name in tables and plots."""
    published: bool = False
    """Whether this reproduces the published code, quirks included."""
    learning_rate: float
    """Recommended; used unless train.learning_rate is set."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        yield from ()

    def layer_problems(self, num_layers: int) -> Iterator[str]:
        """Yield what is wrong with these settings for a model of so many layers."""
        yield from ()

    def inject(self, backbone: "Backbone") -> "Adapted":
        """Put the method into the backbone and return the handles to it."""
        raise NotImplementedError(f"{type(self).__name__} must say how it is put into a backbone")


M = TypeVar("M", bound=Method)
METHODS: dict[str, type[Method]] = {}


def method(name: str) -> Callable[[type[M]], type[M]]:
    """Make a method's settings choosable: `/schema/method/<name>` in a YAML file's defaults."""

    def register(cls: type[M]) -> type[M]:
        METHODS[name] = cls
        ConfigStore.instance().store(group="schema/method", name=name, node=cls, provider="molex")
        return cls

    return register


def registered_name(settings: Method) -> str:
    """Return the name under which a method's settings are registered."""
    return next(name for name, cls in METHODS.items() if cls is type(settings))


@dataclass(kw_only=True)
class Group:
    """Parameters that the optimizer treats alike, and that the ledger counts as one part."""

    name: str
    parameters: "dict[str, nn.Parameter]"
    learning_rate: float | None = None
    """Peak learning rate; None takes the run's."""
    weight_decay: float | None = None
    """None takes train.weight_decay."""


@dataclass(kw_only=True)
class Adapted:
    """A backbone with a method in it, and handles to all that the method trains."""

    backbone: "Backbone"
    groups: list[Group]
    routers: "dict[int, Routing]" = field(default_factory=dict)
    """By layer; none for a method or layer without a choice."""
    tokens: "TokenWeights | None" = None
    """Which tokens the routers count."""
    balance: float = 0.0
    """Coefficient of the balance loss."""
    balance_sum: bool = False
    """Sum the balance loss over layers instead of averaging it."""
    experts_per_layer: tuple[int, ...] | None = None
    unused: Callable[[], dict[str, str]] = dict
    """Trainable tensors that needed no gradient so far, and why."""
    added_flops: Callable[[float, bool], float] = lambda base, active: 0.0
    """Forward FLOPs a token that the method adds to the base's; of the chosen experts only if `active`."""
    pad_to: int | None = None
    """Tokens that every batch is padded to; None pads to its longest row."""
    reads_prompt: bool = False
    """Whether the model takes the extra argument `prompt_mask`."""
    sharded: bool = False
    """Whether the frozen weights are divided among processes, so that all must call the model together."""
    batch_dependent: str = ""
    """Why a prediction depends on what else is in its batch; such a model is scored in the order of the rows."""

    @property
    def model(self) -> Any:
        """Return the model, adapted."""
        return self.backbone.model

    def trainable(self) -> "dict[str, nn.Parameter]":
        """Return every trained parameter by name, in a fixed order."""
        return {name: p for group in self.groups for name, p in sorted(group.parameters.items())}

    def auxiliary_loss(self, *, split: bool = False) -> "Tensor | None":
        """Return the balance loss of the last forward pass, before its coefficient; None without routers.

        With `split`, this process's part of the loss of a forward pass that all processes share.
        """
        if not self.routers:
            return None
        import torch

        losses = torch.stack([router.balance(split=split) for router in self.routers.values()])
        return losses.sum() if self.balance_sum else losses.mean()

    @contextmanager
    def uncounted(self) -> "Iterator[None]":
        """Let forward passes inside leave no trace in what the routers count."""
        if self.tokens is not None:
            self.tokens.silent = True
        try:
            yield
        finally:
            if self.tokens is not None:
                self.tokens.silent = False

    def take_routing(self) -> dict[str, dict[str, Any]]:
        """Return what the routers did since this was last asked, by layer: `usage`, the share of each expert, ..."""
        return {str(layer): router.take() for layer, router in self.routers.items()}


def freeze(backbone: "Backbone", *groups: Group) -> list[Group]:
    """Freeze all but the groups' parameters and the head; return the groups with the head's added."""
    head = Group(name="head", parameters=backbone.head())
    if not head.parameters and not any(group.parameters for group in groups):
        raise MethodError(f"method must train something, got nothing in {backbone.name}, which has no head of its own")
    all_groups = [*(group for group in groups if group.parameters), head]
    for parameter in backbone.model.parameters():
        parameter.requires_grad_(False)
    for group in all_groups:
        for parameter in group.parameters.values():
            parameter.requires_grad_(True)
    return all_groups
