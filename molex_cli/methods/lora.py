"""LoRA: a low-rank update of frozen linears, h = W x + (alpha / r) B A x (Hu et al. 2022, equation 3)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from molex_cli.methods.base import Adapted, Group, Method, freeze, method

if TYPE_CHECKING:
    from molex_cli.layers.fixed_gates import FixedGates
    from molex_cli.layers.routing_statistics import LayerRouting
    from molex_cli.models.structure import Backbone


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

    solvable: ClassVar[dict[str, str]] = {"rank": ""}


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


def inject_experts(
    settings: Update,
    backbone: "Backbone",
    *,
    experts: Sequence[int],
    top_k: int = 1,
    routings: "dict[int, LayerRouting] | None" = None,
    given: "Callable[..., FixedGates] | None" = None,
    key: str = "method.targets",
) -> Adapted:
    """Give every targeted linear of layer j `experts[j]` low-rank experts and return the handles.

    `given` makes gates in the place of routers, from the number of experts and the linears' names.
    """
    from molex_cli.layers.experts import FusedLinears, LowRankExperts
    from molex_cli.models.structure import features, shared_inputs

    targets = backbone.targets(settings.targets, key)
    modules: dict[str, LowRankExperts] = {}
    computed: list[FusedLinears] = []
    for linears in shared_inputs(targets):
        layer = linears[0].layer
        members = [
            LowRankExperts(linear.module, features(linear.module), experts[layer], settings.rank, routed=given is None)
            for linear in linears
        ]
        scale = settings.alpha / settings.rank
        routing = (routings or {}).get(layer)
        names = [linear.name.split(f".{layer}.", 1)[-1] for linear in linears]
        computed.append(
            FusedLinears(
                members,
                top_k=top_k,
                scale=scale,
                dropout=settings.dropout,
                routing=routing,
                names=names,
                given=given(experts[layer], names=[each.name for each in linears]) if given and routing else None,
            )
        )
        for linear, member in zip(linears, members, strict=True):
            backbone.replace(linear, member)
            modules[linear.name] = member
    adapters = {f"{n}.{part}": getattr(m, part) for n, m in modules.items() for part in ("down", "up")}
    routers = {f"{n}.router": m.router for n, m in modules.items() if m.router is not None}
    groups = freeze(backbone, Group(name="adapters", parameters=adapters), Group(name="routers", parameters=routers))

    def added_flops(base: float, active: bool) -> float:
        return sum(m.flops_per_token(top_k if active else None) for m in modules.values())

    return Adapted(backbone=backbone, groups=groups, added_flops=added_flops)
