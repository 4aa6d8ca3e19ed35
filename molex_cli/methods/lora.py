"""LoRA: a low-rank update of frozen linears, h = W x + (alpha / r) B A x (Hu et al. 2022, equation 3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from molex_cli.errors import ConfigError, MethodError
from molex_cli.methods.allocation import Allocation, experts_per_layer
from molex_cli.methods.base import ADAPTERS, Adapted, Group, LayerExperts, Method, freeze, method
from molex_cli.methods.peft import PREFIX
from molex_cli.statistics.expert_similarity import layer_and_module

if TYPE_CHECKING:
    from torch import Tensor

    from molex_cli.layers.experts import LowRankExperts
    from molex_cli.layers.fixed_gates import FixedGates
    from molex_cli.layers.routing_statistics import LayerRouting
    from molex_cli.models.structure import Backbone, Linear

PARTS = ("query", "key", "value")


@dataclass(kw_only=True)
class Update:
    """Settings of low-rank updates."""

    rank: int = 8
    """Rank r of an update."""
    alpha: float = 16.0
    """The update is scaled by alpha / rank, the rank of its own linear."""
    dropout: float = 0.05
    """Dropout on the input of the update."""
    targets: list[str] = field(default_factory=lambda: ["all-linear"])
    """Linears to adapt: all-linear (all in the blocks), ends of names, or regular expressions."""
    joint_parts: list[str] = field(default_factory=list)
    """Of a joint query-key-value linear (GPT-2's c_attn): parts that get factors of their own; [] takes it as one."""
    same_start: bool = False
    """Let the A's of all layers start alike, as where a model's blocks are copies of one."""
    dropout_per_expert: bool = False
    """Draw a dropout mask for each linear and expert instead of one for all that share an input."""

    @property
    def scale(self) -> float:
        """Return the factor of B A."""
        return self.alpha / self.rank

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if self.rank < 1:
            yield f".rank must be at least 1, got {self.rank}"
        if self.alpha <= 0:
            yield f".alpha must be above 0, got {self.alpha}"
        if not 0 <= self.dropout < 1:
            yield f".dropout must be at least 0 and below 1, got {self.dropout}"
        if not self.targets:
            yield ".targets must name at least one linear, got []; all-linear takes all in the blocks"
        if not set(self.joint_parts) <= set(PARTS) or len(set(self.joint_parts)) < len(self.joint_parts):
            yield f".joint_parts must be different ones of {', '.join(PARTS)}, got {list(self.joint_parts)}"


@dataclass(kw_only=True)
class LowRank(Update, Method):
    """Settings of every method that adds low-rank updates to the base's own linears."""

    solvable: ClassVar[Mapping[str, str]] = {"rank": "rank"}

    def merge(self, adapted: Adapted) -> None:
        """Add every update to its linear's weight and put the linear back."""
        from molex_cli.layers.experts import LowRankExperts
        from molex_cli.layers.joint_linear import JointLinear

        for name, module in list(adapted.model.named_modules()):
            if isinstance(module, JointLinear) or (isinstance(module, LowRankExperts) and module.base is not None):
                adapted.model.set_submodule(name, module.merged())

    def export(self, adapted: Adapted) -> "tuple[dict[str, Tensor], Any]":
        """Return A [r, in] and B [out, r] of every adapted linear by PEFT's names, and PEFT's config of them."""
        from peft import LoraConfig

        modules = low_rank_modules(adapted)
        if any(module.num_experts > 1 for module in modules.values()):
            return super().export(adapted)
        if any(module.base is None for module in modules.values()):
            raise MethodError(
                "molex export must be given factors of whole linears, got method.joint_parts="
                f"[{','.join(self.joint_parts)}], which PEFT has none for; molex merge writes the model"
            )
        # Named by hand: get_peft_model_state_dict names the modules of a model that PEFT has wrapped.
        tensors = {f"{PREFIX}{name}.lora_A.weight": module.down[0] for name, module in modules.items()}
        tensors |= {f"{PREFIX}{name}.lora_B.weight": module.up[0].t() for name, module in modules.items()}
        config = LoraConfig(
            r=self.rank,
            rank_pattern={name: module.rank for name, module in modules.items() if module.rank != self.rank},
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(modules),
            fan_in_fan_out=any(module.is_transposed for module in modules.values()),
        )
        return tensors, config

    def experts(self, adapted: Adapted) -> Mapping[int, LayerExperts]:
        """Return the experts of each layer: those of equal number in all its linears are one."""
        from molex_cli.layers.experts import LowRankLayer

        layers: dict[int, list[LowRankExperts]] = {}
        for name, module in low_rank_modules(adapted).items():
            layers.setdefault(layer_and_module(name)[0], []).append(module)
        return {layer: LowRankLayer(modules) for layer, modules in sorted(layers.items())}

    def factors(self, adapted: Adapted) -> "Mapping[str, tuple[Tensor, Tensor, float]]":
        """Return A [E, r, in], B [E, r, out] and the factor of their product for each linear, by its name."""
        modules = low_rank_modules(adapted)
        return {name: (module.down, module.up, self.alpha / module.rank) for name, module in modules.items()}

    def low_rank(self) -> Update:
        """Return these settings."""
        return self

    def with_dropout(self, dropout: float) -> Self:
        """Return the same method with this dropout in its adapters."""
        return replace(self, dropout=dropout)


@method("lora")
@dataclass(kw_only=True)
class LoRA(LowRank):
    """One low-rank update on every targeted linear.

    With an allocation N_j, layer j has rank r N_j and keeps the factor alpha / (r N_j): what N_j experts of rank r add
    whose gates are 1 / N_j each, so that MoLA of the same allocation differs in nothing but that it routes.
    """

    solvable: ClassVar[Mapping[str, str]] = {"rank": "rank", "total": "allocation.total", "mean": "allocation.mean"}
    name: str = "lora"
    display_name: str = "LoRA"
    learning_rate: float = 5e-4
    allocation: Allocation = field(default_factory=Allocation)
    """How many times `rank` each layer gets; as long as nothing of it is set, once."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        yield from super().problems()
        yield from (f".allocation{problem}" for problem in self.allocation.problems())
        if self.allocation != Allocation() and not self.allocation.is_set:
            yield ".allocation must set shape, mean, total, bands or layers where it sets anything, got none of them"

    def layer_problems(self, num_layers: int) -> Iterator[str]:
        """Yield what is wrong with the allocation for a model of so many layers."""
        try:
            self.rank_per_layer(num_layers)
        except ConfigError as error:
            yield from error.problems

    def rank_per_layer(self, num_layers: int) -> tuple[int, ...] | None:
        """Return the rank of each layer, or None where they are all alike; raise ConfigError for an impossible one."""
        if not self.allocation.is_set:
            return None
        return tuple(self.rank * count for count in experts_per_layer(self.allocation, num_layers))

    def inject(self, backbone: "Backbone") -> Adapted:
        """Replace the targeted linears by ones with an update."""
        ranks = self.rank_per_layer(backbone.num_layers)
        experts = [min(1, rank) for rank in ranks or [self.rank] * backbone.num_layers]
        adapted = inject_experts(self, backbone, experts=experts, ranks=ranks)
        adapted.rank_per_layer = ranks
        return adapted


def low_rank_modules(adapted: Adapted) -> "dict[str, LowRankExperts]":
    """Return the adapted linears by name."""
    from molex_cli.layers.experts import LowRankExperts

    return {name: each for name, each in adapted.model.named_modules() if isinstance(each, LowRankExperts)}


def inject_experts(
    settings: Update,
    backbone: "Backbone",
    *,
    experts: Sequence[int],
    ranks: Sequence[int] | None = None,
    top_k: int = 1,
    routings: "dict[int, LayerRouting] | None" = None,
    fixed_gates: "Callable[..., FixedGates] | None" = None,
    key: str = "method.targets",
) -> Adapted:
    """Give every targeted linear of layer j `experts[j]` low-rank experts and return the handles.

    A layer of no experts is left as it is. `ranks` gives each layer a rank of its own instead of the settings'.
    `fixed_gates` makes gates instead of routers, from the number of experts and the linears' names.
    """
    from molex_cli.models.structure import shared_inputs

    modules: dict[str, LowRankExperts] = {}
    targets = [linear for linear in backbone.targets(settings.targets, key) if experts[linear.layer]]
    if not targets:
        raise MethodError(
            f"{key} must match linears of a layer that the allocation gives experts, got "
            f"{', '.join(settings.targets)} and {' '.join(map(str, ranks or experts))}"
        )
    for linears in shared_inputs(targets):
        layer = linears[0].layer
        own = replace(settings, rank=ranks[layer]) if ranks else settings
        routing = (routings or {}).get(layer)
        members: dict[str, LowRankExperts] = {}
        for linear in linears:
            parts = backbone.joint_parts(linear, key.replace("targets", "joint_parts")) if settings.joint_parts else ()
            members |= _replaced(own, backbone, linear, parts, experts[layer], routed=fixed_gates is None)
        gates = fixed_gates(experts[layer], names=list(members)) if fixed_gates and routing else None
        _fuse(own, layer, members, top_k, routing, gates)
        modules |= members
    if settings.same_start:
        _start_alike(modules)

    def added_flops(base: float, active: bool) -> float:
        return sum(m.flops_per_token(top_k if active else None) for m in modules.values())

    groups = freeze(backbone, *_groups(modules))
    return Adapted(backbone=backbone, groups=groups, added_flops=added_flops, uncompiled=list(modules.values()))


def _groups(modules: "Mapping[str, LowRankExperts]") -> tuple[Group, Group]:
    """Return the parameters that are trained: the experts' matrices and the routers."""
    adapters = {f"{name}.{part}": getattr(each, part) for name, each in modules.items() for part in ("down", "up")}
    routers = {f"{name}.router": each.router for name, each in modules.items() if each.router is not None}
    return Group(name=ADAPTERS, parameters=adapters), Group(name="routers", parameters=routers)


def _replaced(
    settings: Update, backbone: "Backbone", linear: "Linear", parts: tuple[str, ...], experts: int, *, routed: bool
) -> "dict[str, LowRankExperts]":
    """Put experts into a linear, or into some of the parts of a joint one, and return them by name."""
    from molex_cli.layers.experts import LowRankExperts
    from molex_cli.layers.joint_linear import JointLinear
    from molex_cli.models.structure import features

    num_in, num_out = features(linear.module)
    if not parts:
        whole = LowRankExperts(linear.module, (num_in, num_out), experts, settings.rank, routed=routed)
        backbone.replace(linear, whole)
        return {linear.name: whole}
    size, device = (num_in, num_out // len(parts)), linear.module.weight.device
    updates = {
        part: LowRankExperts(None, size, experts, settings.rank, routed=routed, device=device)
        for part in settings.joint_parts
    }
    backbone.replace(linear, JointLinear(linear.module, parts, updates))
    return {f"{linear.name}.{part}": update for part, update in updates.items()}


def _start_alike(modules: "Mapping[str, LowRankExperts]") -> None:
    """Let each A start as that of the lowest layer's linear of the same name."""
    import torch

    first: dict[str, LowRankExperts] = {}
    for name, module in modules.items():
        lowest = first.setdefault(layer_and_module(name)[1], module)
        if lowest.down.shape != module.down.shape:
            raise MethodError(
                f"method.same_start must have factors of one size in all layers, got {list(lowest.down.shape)} and "
                f"{list(module.down.shape)}; set method.same_start=false"
            )
        with torch.no_grad():
            module.down.copy_(lowest.down)


def _fuse(
    settings: Update,
    layer: int,
    members: "dict[str, LowRankExperts]",
    top_k: int,
    routing: "LayerRouting | None",
    gates: "FixedGates | None",
) -> None:
    """Let the members, which hold what is made here, compute what they share together."""
    from molex_cli.layers.experts import FusedLinears

    FusedLinears(
        list(members.values()),
        top_k=top_k,
        scale=settings.scale,
        dropout=settings.dropout,
        dropout_per_expert=settings.dropout_per_expert,
        routing=routing,
        names=[name.split(f".{layer}.", 1)[-1] for name in members],
        fixed_gates=gates,
    )
