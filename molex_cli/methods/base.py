"""What all methods share: their settings, and the handles that `inject` returns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from molex_cli.errors import MethodError, require_own_name
from molex_cli.records.stored_text import as_stored

if TYPE_CHECKING:
    from torch import Tensor, nn

    from molex_cli.layers.routing_statistics import Routing, TokenWeights
    from molex_cli.methods.lora import Update
    from molex_cli.models.structure import Backbone

ADAPTERS = "adapters"
Inject = Callable[["Backbone"], "Adapted"]


class LayerExperts(Protocol):
    """What a method adds to one layer, as far as it can be left out again."""

    def numbers(self) -> Sequence[int]:
        """Return the experts that can be left out one by one; raise ConfigError where they cannot."""

    def without(self, expert: int | None) -> AbstractContextManager[None]:
        """Leave out one expert for a while, or all that the method adds to the layer."""


@dataclass(kw_only=True)
class Method:
    """Settings of one way to fine-tune, and what can be done to a model that was tuned that way.

    What a method does not define is refused by its name: nothing is guessed from its modules.
    """

    starts_at_base: ClassVar[bool] = True
    """Whether an untrained model predicts what the base model predicts."""
    yardsticks: ClassVar[tuple[str, ...]] = ()
    """Those of `bench_arms` that all arms are held against."""
    solvable: ClassVar[Mapping[str, str]] = {}
    """The setting for each of rank, total and mean (of experts) in which `molex plan --match` can solve a budget."""
    name: str
    """Name in records and folders."""
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

    def paper(self) -> str:
        """Return the paper that the method is from: authors, year, arXiv number; nothing where there is none."""
        return ""

    def inject(self, backbone: "Backbone") -> "Adapted":
        """Put the method into the backbone and return the handles to it."""
        raise MethodError(f"method={self.name} must say how it is put into a model, got no inject in its class")

    def merge(self, adapted: "Adapted") -> None:
        """Write what was trained into the model's own weights and leave a plain model behind."""
        raise MethodError(f"molex merge must be given a run whose method says how it is merged, got {self.name}")

    def export(self, adapted: "Adapted") -> "tuple[dict[str, Tensor], Any]":
        """Return the tensors by PEFT's names, without the head, and PEFT's config of them."""
        raise MethodError(
            f"molex export must be given a run of LoRA, one expert and no router in each linear, got {self.name}"
        )

    def experts(self, adapted: "Adapted") -> "Mapping[int, LayerExperts]":
        """Return what an ablation can leave out, by layer."""
        raise MethodError(
            f"--ablate must be given a run whose method says what its experts or guests are, got {self.name}"
        )

    def factors(self, adapted: "Adapted") -> "Mapping[str, tuple[Tensor, Tensor, float]]":
        """Return A [E, r, in], B [E, r, out] and the factor of their product for each linear, by its name."""
        raise MethodError(f"--start must be given a run whose method says what its experts are, got {self.name}")

    def low_rank(self) -> "Update | None":
        """Return the settings of the low-rank updates that are trained; None where there are none."""
        return None

    def experts_per_layer(self, num_layers: int) -> tuple[int, ...] | None:
        """Return how many experts each layer gets; None for a method that has none to spread."""
        return None

    def rank_per_layer(self, num_layers: int) -> tuple[int, ...] | None:
        """Return the rank of each layer's updates; None for a method that spreads no ranks."""
        return None

    def with_dropout(self, dropout: float) -> Self:
        """Return the same method with this dropout in its adapters, where it has any."""
        return self

    def with_experts(self, mean: float, top_k: int) -> "Method | None":
        """Return the same method with so many experts a layer, `top_k` of them for a token; None if it has none."""
        return None

    def bench_arms(self) -> dict[str, Inject]:
        """Name what the bench measures for this method, in order: itself and what it is to be held against."""
        return {self.name: self.inject}


M = TypeVar("M", bound=Method)
METHODS: dict[str, type[Method]] = {}


def method(name: str) -> Callable[[type[M]], type[M]]:
    """Make a method's settings choosable: `/schema/method/<name>` in a YAML file's defaults."""

    def register(cls: type[M]) -> type[M]:
        require_own_name("a method", name, METHODS)
        METHODS[name] = cls
        ConfigStore.instance().store(group="schema/method", name=name, node=cls, provider="molex")
        return cls

    return register


def registered_name(settings: Method) -> str:
    """Return the name under which a method's settings are registered."""
    return next(name for name, cls in METHODS.items() if cls is type(settings))


def low_rank_scale(name: str, settings: Mapping[str, Any]) -> float:
    """Return the factor of B A in a file of this method with these settings; raise MethodError where it has none."""
    update = restored(name, settings).low_rank()
    if update is None:
        raise MethodError(f"a run must be of a method that says how its updates are scaled, got {settings['name']}")
    return update.scale


def restored(name: str, settings: Mapping[str, Any]) -> Method:
    """Return a method from its registered name and a file's settings; raise KeyError or ValueError for strange ones."""
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(METHODS[name]), as_stored(settings)))
    except OmegaConfBaseException as error:
        raise ValueError(str(error)) from None
    assert isinstance(found, Method)
    return found


@dataclass(kw_only=True)
class OwnWeights(Method):
    """A method that trains weights which the model has anyway: nothing to merge, and no experts."""

    def merge(self, adapted: "Adapted") -> None:
        """Do nothing: the model is a plain one already."""

    def experts(self, adapted: "Adapted") -> "Mapping[int, LayerExperts]":
        """Return none."""
        return {}


@dataclass(kw_only=True)
class Group:
    """Parameters that the optimizer treats alike, and that the ledger counts as one part."""

    name: str
    """`adapters` for what is added to the base: its linears are no part of the base's FLOPs."""
    parameters: "dict[str, nn.Parameter]"
    """By full name."""
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
    balances: "Callable[..., Tensor] | None" = None
    """Returns the balance losses of all layers at once; None asks each router."""
    experts_per_layer: tuple[int, ...] | None = None
    rank_per_layer: tuple[int, ...] | None = None
    """Of one update without a router in each linear, where layers have ranks of their own."""
    unused: Callable[[], dict[str, str]] = dict
    """Trainable tensors that needed no gradient so far, and why."""
    assume_choices: Callable[[], None] = lambda: None
    """Lets choices that depend on the data be such that need most memory: for plans, which have no data."""
    added_flops: Callable[[float, bool], float] = lambda base, active: 0.0
    """Forward FLOPs a token that the method adds to the base's; of the chosen experts only if `active`."""
    pad_to: int | None = None
    """Tokens that every batch is padded to; None pads to its longest row."""
    reads_prompt: bool = False
    """Whether the model takes the extra argument `prompt_mask`."""
    sharded: bool = False
    """Whether the frozen weights are divided among processes, so that all must call the model together."""
    shard_parts: "Callable[[], list[nn.Module]] | None" = None
    """Gets ready for frozen weights that are sharded, and returns the modules to shard; None takes the blocks."""
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

        if self.balances is None:
            losses = torch.stack([router.balance(split=split) for router in self.routers.values()])
        else:
            losses = self.balances(split=split)
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
        """Return what the routers did since the last call, by layer: `usage`, the share of each expert, ..."""
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
