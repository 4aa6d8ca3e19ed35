"""MixLoRA: LoRA experts that are whole feed-forward networks (Li et al., arXiv 2404.15159).

Layer j has N_j experts behind one router, which reads what the feed-forward network reads. An expert is an update of
all its linears together, and the experts' outputs meet after the last one; the linears of attention have plain LoRA.
Where we differ from the published code is said in docs/methods.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from molex_cli.errors import ConfigError, MethodError
from molex_cli.methods.base import Adapted, Inject, LayerExperts, Method, method
from molex_cli.methods.low_rank import (
    adapted_by,
    low_rank_modules,
    put_experts,
    start_alike,
    targets_with_experts,
)
from molex_cli.methods.mola import MoLA, Router
from molex_cli.statistics.expert_similarity import layer_and_module

if TYPE_CHECKING:
    from molex_cli.layers.experts import LowRankExperts
    from molex_cli.layers.routed_feed_forward import RoutedFeedForward
    from molex_cli.layers.routing_statistics import LayerRouting, TokenWeights
    from molex_cli.models.feed_forward import FeedForward
    from molex_cli.models.structure import Backbone, Linear

ROUTER_DEVIATION = 0.02  # of the router's first weights, as published


@method("mixlora")
@dataclass(kw_only=True)
class MixLoRA(MoLA):
    """MoLA's settings, with one router for each feed-forward network instead of one for each linear."""

    yardsticks: ClassVar[tuple[str, ...]] = ()
    name: str = "mixlora"
    display_name: str = "MixLoRA"

    def paper(self) -> str:
        """Return the paper that the method is from."""
        return "Li et al. 2024, arXiv 2404.15159"

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        yield from super().problems()
        if self.dropout_per_expert:
            yield f".dropout_per_expert must be false for {self.name}, whose experts share an input's mask, got true"

    def bench_arms(self) -> dict[str, Inject]:
        """Name the method itself."""
        return Method.bench_arms(self)

    def experts(self, adapted: Adapted) -> Mapping[int, LayerExperts]:
        """Return the experts of each layer's network; attention's updates are left out with the whole layer alone."""
        from molex_cli.layers.experts import LowRankLayer

        layers: dict[int, list[LowRankExperts]] = {}
        for name, module in low_rank_modules(adapted).items():
            layers.setdefault(layer_and_module(name)[0], []).append(module)
        found = {}
        for layer, modules in sorted(layers.items()):
            network = [module for module in modules if module.num_experts > 1] or modules
            found[layer] = LowRankLayer(network, [module for module in modules if module not in network])
        return found

    def inject(self, backbone: "Backbone") -> Adapted:
        """Give each layer's feed-forward network experts, and the other targeted linears of that layer plain LoRA."""
        from molex_cli.layers.routing_statistics import TokenWeights

        if problems := list(self.layer_problems(backbone.num_layers)):
            raise ConfigError(problems)
        experts = self.experts_per_layer(backbone.num_layers)
        targets = targets_with_experts(self, backbone, experts)
        networks = self._networks(backbone, targets)
        weights = TokenWeights(self.count_padding)
        routings = self.routings(experts, weights, {linear.layer for linear in targets})
        inside = {linear.name for layer in routings for linear in networks[layer].linears}
        modules = put_experts(
            [self] * backbone.num_layers,
            backbone,
            [linear for linear in targets if linear.name not in inside],
            experts=[min(1, count) for count in experts],
            routings={},
        )
        flops = sum(module.flops_per_token(None) for module in modules.values())
        routed = []
        for layer, routing in routings.items():
            replaced, network = self._routed_network(backbone, networks[layer], experts[layer], routing, weights)
            modules |= replaced
            routed.append(network)
        if self.same_start:
            start_alike(modules)

        def added_flops(base: float, active: bool) -> float:
            return flops + sum(network.flops_per_token(active) for network in routed)

        return self.routed(adapted_by(backbone, modules, added_flops), routings, weights, experts)

    def _networks(self, backbone: "Backbone", targets: "Sequence[Linear]") -> "list[FeedForward]":
        """Return the network of each layer; raise MethodError where a linear of one that has experts is no target."""
        from molex_cli.models.feed_forward import feed_forwards

        networks, known = feed_forwards(backbone), {linear.name for linear in targets}
        for layer in sorted({linear.layer for linear in targets}):
            if left := [each.last_name for each in networks[layer].linears if each.name not in known]:
                raise MethodError(
                    f"method.targets must match all linears of the feed-forward networks, got "
                    f"{', '.join(self.targets)} without {', '.join(left)} in layer {layer}; all-linear takes all"
                )
        return networks

    def _routed_network(
        self,
        backbone: "Backbone",
        network: "FeedForward",
        experts: int,
        routing: "LayerRouting",
        weights: "TokenWeights",
    ) -> "tuple[dict[str, LowRankExperts], RoutedFeedForward]":
        """Replace the linears of a network and return what took their place by name, and what computes it."""
        import torch

        from molex_cli.layers.experts import LowRankExperts
        from molex_cli.layers.fixed_gates import FixedGates
        from molex_cli.layers.routed_feed_forward import RoutedFeedForward
        from molex_cli.models.structure import features

        learned, first = self.router is Router.learned, network.inputs[0]
        modules = {
            linear.name: LowRankExperts(
                linear.module, features(linear.module), experts, self.rank, routed=learned and linear is first
            )
            for linear in network.linears
        }
        *inputs, output = modules.values()
        if (router := inputs[0].router) is not None:
            torch.nn.init.normal_(router, std=ROUTER_DEVIATION)
        for linear in network.linears:
            backbone.replace(linear, modules[linear.name])
        names, top_k = [first.parent], self.computed_of(experts)
        made = RoutedFeedForward(
            inputs,
            output,
            top_k=top_k,
            scale=self.scale,
            dropout=self.dropout,
            routing=routing,
            fixed_gates=None if learned else FixedGates(self.router.name, experts, names, top_k=top_k, tokens=weights),
        )
        return modules, made
