"""MoLA: LoRA experts, a different number in each layer (Gao et al., arXiv 2402.08562, equations 1-4).

Each targeted linear of layer j has N_j LoRA experts and a router that picks the top k for every token.
Where we differ from the published code, which `mola_paper` reproduces: the balance loss is on, leaves
padding out and is averaged over layers, so that its coefficient does not scale with the depth.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Self

from molex_cli.errors import ConfigError
from molex_cli.methods.allocation import Allocation, experts_per_layer
from molex_cli.methods.base import Adapted, Inject, method
from molex_cli.methods.lora import LowRank
from molex_cli.methods.low_rank import inject_experts, low_rank_modules

if TYPE_CHECKING:
    from molex_cli.layers.routing_statistics import LayerRouting, TokenWeights
    from molex_cli.models.structure import Backbone


LOOP = "loop"


class Router(Enum):
    """Who gives a token its experts; all but the first are controls that learn nothing (docs/methods.md)."""

    learned = "learned"
    random = "random"
    uniform = "uniform"
    fixed = "fixed"


@method("mola")
@dataclass(kw_only=True)
class MoLA(LowRank):
    """LoRA experts, allocated layer by layer, behind a top-k router for each linear."""

    yardsticks: ClassVar[tuple[str, ...]] = (LOOP,)
    solvable: ClassVar[Mapping[str, str]] = {"rank": "rank", "total": "allocation.total", "mean": "allocation.mean"}
    name: str = "mola"
    display_name: str = "MoLA"
    learning_rate: float = 5e-4
    allocation: Allocation = field(default_factory=Allocation)
    """How many experts each layer gets."""
    top_k: int = 2
    """Experts that work on a token."""
    clip_top_k: bool = False
    """Let a layer with fewer than top_k experts use all it has."""
    router: Router = Router.learned
    """learned; or random: a random top_k for each token, uniform: the mean of all experts, fixed: the first top_k."""
    balance: float = 0.01
    """Coefficient of the balance loss; 0 turns it off."""
    balance_sum: bool = False
    """Sum the balance loss over layers instead of averaging it."""
    count_padding: bool = False
    """Count padding in the balance loss and the usage."""

    def paper(self) -> str:
        """Return the paper that the method is from."""
        return "Gao et al. 2024, arXiv 2402.08562"

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        yield from super().problems()
        allocation = list(self.allocation.problems())
        yield from (f".allocation{problem}" for problem in allocation)
        if self.top_k < 1:
            yield f".top_k must be at least 1, got {self.top_k}"
        if self.balance < 0:
            yield f".balance must be at least 0, got {self.balance}"

    def layer_problems(self, num_layers: int) -> Iterator[str]:
        """Yield what is wrong with the allocation for a model of so many layers."""
        try:
            experts = self.experts_per_layer(num_layers)
        except ConfigError as error:
            yield from error.problems
            return
        short = [layer for layer, count in enumerate(experts) if 0 < count < self.top_k]
        if self.router is Router.uniform:  # which takes all there are
            return
        if short and not self.clip_top_k:
            fewest, where = min(experts[layer] for layer in short), ", ".join(map(str, short))
            yield (
                f"method.top_k must not exceed any layer's experts, got {self.top_k} with {fewest} in layer {where}; "
                "set method.clip_top_k=true to let those layers use all they have"
            )

    def experts_per_layer(self, num_layers: int) -> tuple[int, ...]:
        """Return how many experts each layer gets; raise ConfigError where no such allocation exists."""
        return experts_per_layer(self.allocation, num_layers)

    def with_experts(self, mean: float, top_k: int) -> Self:
        """Return the same method with so many experts a layer, `top_k` of them for a token."""
        return replace(self, allocation=Allocation(mean=mean), top_k=top_k)

    def bench_arms(self) -> dict[str, Inject]:
        """Name the method itself and, where a router chooses, the loop over the experts that it chose."""
        loop: dict[str, Inject] = {LOOP: self._inject_loop} if self.router is Router.learned else {}
        return super().bench_arms() | loop

    def inject(self, backbone: "Backbone") -> Adapted:
        """Replace the targeted linears by ones with experts and a router."""
        from molex_cli.layers.fixed_gates import FixedGates
        from molex_cli.layers.routing_statistics import TokenWeights

        if problems := list(self.layer_problems(backbone.num_layers)):
            raise ConfigError(problems)
        experts = self.experts_per_layer(backbone.num_layers)
        weights = TokenWeights(self.count_padding)
        learned = self.router is Router.learned
        routings = self.routings(experts, weights, {linear.layer for linear in backbone.targets(self.targets)})
        adapted = inject_experts(
            self,
            backbone,
            experts=experts,
            top_k=self.computed_of(max(experts)),
            routings=routings,
            fixed_gates=None if learned else partial(FixedGates, self.router.name, top_k=self.top_k, tokens=weights),
        )
        return self.routed(adapted, routings, weights, experts)

    def computed_of(self, experts: int) -> int:
        """Return how many of a layer's experts work on a token."""
        return experts if self.router is Router.uniform else self.top_k

    def routings(
        self, experts: tuple[int, ...], weights: "TokenWeights", layers: Iterable[int]
    ) -> "dict[int, LayerRouting]":
        """Return what keeps the routing of each of these layers that has a choice."""
        from molex_cli.layers.routing_statistics import LayerRouting

        learned = self.router is Router.learned
        # A control can use no more of its experts than it does: that is no collapse.
        return {
            j: LayerRouting(experts[j], self.top_k if learned else experts[j], weights, has_routers=learned)
            for j in sorted(layers)
            if experts[j] > 1
        }

    def routed(
        self,
        adapted: Adapted,
        routings: "Mapping[int, LayerRouting]",
        weights: "TokenWeights",
        experts: tuple[int, ...],
    ) -> Adapted:
        """Let the routings watch the model, and say so in the handles."""
        weights.watch(adapted.model)
        adapted.routers, adapted.tokens, adapted.experts_per_layer = dict(routings), weights, experts
        adapted.balances = weights.routed.balances
        adapted.balance = self.balance if self.router is Router.learned else 0.0
        adapted.balance_sum = self.balance_sum
        return adapted

    def _inject_loop(self, backbone: "Backbone") -> Adapted:
        """Put in the same experts as a plain loop, which counts no routing."""
        from molex_cli.layers.reference import LoopExperts

        adapted = self.inject(backbone)
        for name, module in low_rank_modules(adapted).items():
            loop = LoopExperts(
                module,
                top_k=self.top_k,
                scale=self.scale,
                dropout=self.dropout,
                dropout_per_expert=self.dropout_per_expert,
            )
            adapted.model.set_submodule(name, loop)
        adapted.routers = {}
        return adapted
