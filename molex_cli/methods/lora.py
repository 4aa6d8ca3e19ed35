"""LoRA: a low-rank update of frozen linears, h = W x + (alpha / r) B A x (Hu et al. 2022, equation 3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from molex_cli.methods.base import ADAPTERS, Adapted, Group, LayerExperts, Method, freeze, method
from molex_cli.methods.peft import PREFIX
from molex_cli.statistics.expert_similarity import layer_and_module

if TYPE_CHECKING:
    from torch import Tensor

    from molex_cli.layers.experts import LowRankExperts
    from molex_cli.layers.fixed_gates import FixedGates
    from molex_cli.layers.routing_statistics import LayerRouting
    from molex_cli.models.structure import Backbone, Linear


@dataclass(kw_only=True)
class Update:
    """Settings of low-rank updates."""

    rank: int = 8
    alpha: float = 16.0
    """The update is scaled by alpha / rank."""
    dropout: float = 0.05
    """Dropout on the input of the update."""
    targets: list[str] = field(default_factory=lambda: ["all-linear"])
    """Linears to adapt: all-linear (all in the blocks), ends of names, or regular expressions."""

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


@dataclass(kw_only=True)
class LowRank(Update, Method):
    """Settings of every method that adds low-rank updates to the base's own linears."""

    solvable: ClassVar[Mapping[str, str]] = {"rank": "rank"}

    def merge(self, adapted: Adapted) -> None:
        """Add every update to its linear's weight and put the linear back."""
        for name, module in low_rank_modules(adapted).items():
            adapted.model.set_submodule(name, module.merged())

    def export(self, adapted: Adapted) -> "tuple[dict[str, Tensor], Any]":
        """Return A [r, in] and B [out, r] of every adapted linear by PEFT's names, and PEFT's config of them."""
        from peft import LoraConfig

        modules = low_rank_modules(adapted)
        if any(module.num_experts > 1 for module in modules.values()):
            return super().export(adapted)
        # Named by hand: get_peft_model_state_dict names the modules of a model that PEFT has wrapped.
        tensors = {f"{PREFIX}{name}.lora_A.weight": module.down[0] for name, module in modules.items()}
        tensors |= {f"{PREFIX}{name}.lora_B.weight": module.up[0].t() for name, module in modules.items()}
        config = LoraConfig(
            r=self.rank,
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
        return {name: (module.down, module.up, self.scale) for name, module in low_rank_modules(adapted).items()}

    def low_rank(self) -> Update:
        """Return these settings."""
        return self

    def with_dropout(self, dropout: float) -> Self:
        """Return the same method with this dropout in its adapters."""
        return replace(self, dropout=dropout)


@method("lora")
@dataclass(kw_only=True)
class LoRA(LowRank):
    """One low-rank update on every targeted linear."""

    name: str = "lora"
    display_name: str = "LoRA"
    learning_rate: float = 5e-4

    def inject(self, backbone: "Backbone") -> Adapted:
        """Replace the targeted linears by ones with an update."""
        return inject_experts(self, backbone, experts=[1] * backbone.num_layers)


def low_rank_modules(adapted: Adapted) -> "dict[str, LowRankExperts]":
    """Return the adapted linears by name."""
    from molex_cli.layers.experts import LowRankExperts

    return {name: each for name, each in adapted.model.named_modules() if isinstance(each, LowRankExperts)}


def inject_experts(
    settings: Update,
    backbone: "Backbone",
    *,
    experts: Sequence[int],
    top_k: int = 1,
    routings: "dict[int, LayerRouting] | None" = None,
    fixed_gates: "Callable[..., FixedGates] | None" = None,
    key: str = "method.targets",
) -> Adapted:
    """Give every targeted linear of layer j `experts[j]` low-rank experts and return the handles.

    `fixed_gates` makes gates instead of routers, from the number of experts and the linears' names.
    """
    from molex_cli.models.structure import shared_inputs

    modules: dict[str, LowRankExperts] = {}
    for linears in shared_inputs(backbone.targets(settings.targets, key)):
        layer = linears[0].layer
        routing = (routings or {}).get(layer)
        gates = None
        if fixed_gates and routing:
            gates = fixed_gates(experts[layer], names=[linear.name for linear in linears])
        members = _members(settings, linears, experts[layer], routed=fixed_gates is None)
        _fuse(settings, linears, members, top_k, routing, gates)
        for linear, member in zip(linears, members, strict=True):
            backbone.replace(linear, member)
            modules[linear.name] = member

    def added_flops(base: float, active: bool) -> float:
        return sum(m.flops_per_token(top_k if active else None) for m in modules.values())

    groups = freeze(backbone, *_groups(modules))
    return Adapted(backbone=backbone, groups=groups, added_flops=added_flops, uncompiled=list(modules.values()))


def _groups(modules: "Mapping[str, LowRankExperts]") -> tuple[Group, Group]:
    """Return the parameters that are trained: the experts' matrices and the routers."""
    adapters = {f"{name}.{part}": getattr(each, part) for name, each in modules.items() for part in ("down", "up")}
    routers = {f"{name}.router": each.router for name, each in modules.items() if each.router is not None}
    return Group(name=ADAPTERS, parameters=adapters), Group(name="routers", parameters=routers)


def _members(settings: Update, linears: "Sequence[Linear]", experts: int, *, routed: bool) -> "list[LowRankExperts]":
    from molex_cli.layers.experts import LowRankExperts
    from molex_cli.models.structure import features

    return [
        LowRankExperts(each.module, features(each.module), experts, settings.rank, routed=routed) for each in linears
    ]


def _fuse(
    settings: Update,
    linears: "Sequence[Linear]",
    members: "list[LowRankExperts]",
    top_k: int,
    routing: "LayerRouting | None",
    gates: "FixedGates | None",
) -> None:
    """Let the members, which hold what is made here, compute what they share together."""
    from molex_cli.layers.experts import FusedLinears

    FusedLinears(
        members,
        top_k=top_k,
        scale=settings.scale,
        dropout=settings.dropout,
        routing=routing,
        names=[linear.name.split(f".{linear.layer}.", 1)[-1] for linear in linears],
        fixed_gates=gates,
    )
