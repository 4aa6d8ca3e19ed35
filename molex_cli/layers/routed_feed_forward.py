"""Feed-forward networks as experts: a router at the input, LoRA on all linears of an expert, gates after the last.

A network whose first linears W_1 ... W_G read x and whose last one, W, gives the output has E experts, of which a
token's router chooses S (MixLoRA, arXiv 2404.15159):

    y   = sum over the chosen e of gate_e(x) (W a_e + b + scale * B_e A_e dropout(a_e))
    a_e = what the model computes from W_g x + b_g + scale * B_ge A_ge dropout(x), g = 1 ... G

The first linears return their S outputs for each token along a new first dimension. What the model does between the
linears, an activation or a product of two outputs, it does to each of them, and no source of a model is edited. What is
frozen is computed once: W_g x for all experts and, since the gates sum to 1, W of the gated sum of the a_e. A choice is
a row of zeros and a one over the experts, so that the B's of all experts are one product: static shapes, no loop over
experts, no host sync.

Dimensions: S choices of a token, T tokens, G first linears, E experts, R rank, I input features, F inner features.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from molex_cli.errors import MethodError
from molex_cli.layers.experts import LowRankExperts
from molex_cli.layers.fixed_gates import FixedGates
from molex_cli.layers.fused_lowrank import drop_probability, keep_mask
from molex_cli.layers.routing import probabilities
from molex_cli.layers.routing_statistics import LayerRouting


class Chosen(NamedTuple):
    """What is known of the tokens that the first linears were given."""

    x: Tensor
    """The input of the network: [..., I]."""
    inner: dict[LowRankExperts, Tensor]
    """Of first linears that were not called yet A_ge dropout(x), zero but for the chosen expert: [S, T, E R]."""
    gates: Tensor
    """Of the choices, in float32: [S, T, 1]."""
    weights: Tensor
    """The same by expert, zero for all but the choice: [S, T, E]."""


class RoutedFeedForward:
    """The experts of one feed-forward network, as modules in the place of its linears.

    The first of `inputs` has the router, unless gates are given. All of `inputs` drop the same features of x.
    """

    def __init__(
        self,
        inputs: Sequence[LowRankExperts],
        output: LowRankExperts,
        *,
        top_k: int,
        scale: float,
        dropout: float,
        routing: LayerRouting | None = None,
        fixed_gates: FixedGates | None = None,
    ) -> None:
        self.inputs, self.last = list(inputs), output
        self.top_k = min(top_k, output.num_experts)
        self.scale, self.dropout = scale, dropout
        self.routing, self.fixed_gates = routing, fixed_gates
        self.index = routing.join(["feed_forward"]) if routing else 0
        self._chosen: Chosen | None = None
        for member in self.members:
            member.fused = self

    def __getstate__(self) -> dict[str, Any]:
        """Leave what a forward pass began out of copies: it hangs on the graph of the original."""
        return {**self.__dict__, "_chosen": None}

    @property
    def members(self) -> list[LowRankExperts]:
        """Return the modules, in the order in which they are called."""
        return [*self.inputs, self.last]

    def output(self, member: LowRankExperts, x: Tensor) -> Tensor:
        """Return a first linear's outputs, [..., I] to [S, ..., F], or the network's, [S, ..., F] to [..., O]."""
        if member is self.last:
            return self._gated(x)
        # One that is called again begins anew, even with the same tensor: a pass may have stopped half-way.
        if self._chosen is None or self._chosen.x is not x or member not in self._chosen.inner:
            self._chosen = self._choose(x)
        return self._opened(member, x, self._chosen.inner.pop(member))

    def flops_per_token(self, active: bool) -> float:
        """Return the forward FLOPs that the experts add: of the chosen ones, or of all as they are computed."""
        if active:
            return sum(member.flops_per_token(self.top_k) for member in self.members)
        ranks, choices = self.last.num_experts * self.last.rank, self.top_k
        wide = sum(m.down.shape[-1] + choices * m.up.shape[-1] for m in self.inputs)
        wide += choices * self.last.down.shape[-1] + self.last.up.shape[-1]
        router = self.inputs[0].router
        return 2 * ranks * wide + (2 * router.numel() if router is not None else 0)

    def _choose(self, x: Tensor) -> Chosen:
        """Let the router choose, and compute what the inputs' A's give of x."""
        index, gates = self._routed(x)
        none = gates.new_zeros(*gates.shape[:2], self.last.num_experts)
        weights = none.scatter(-1, index, gates)
        downs = [member.down.flatten(0, 1) for member in self.inputs]
        down = downs[0] if len(downs) == 1 else torch.cat(downs)
        inner = functional.linear(self._dropped(x), down.to(_dtype(x)))
        by_expert = inner.view(1, none.shape[1], len(downs), none.shape[2], -1)
        choices = none.scatter_(-1, index, 1.0).to(inner.dtype)
        chosen = (by_expert * choices[:, :, None, :, None]).flatten(3)
        return Chosen(x, dict(zip(self.inputs, chosen.unbind(2), strict=True)), gates, weights)

    def _routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return each token's choices and their gates, which sum to 1: [S, T, 1] both."""
        router, shape = self.inputs[0].router, x.shape[:-1]
        logits = None
        if self.fixed_gates is None:
            assert router is not None
            logits = functional.linear(x, router.to(_dtype(x))).view(-1, len(router))
            values, chosen = logits.topk(self.top_k)
            gates = probabilities(values)  # renormalised, the largest of a softmax are the softmax of the largest
        else:
            gates, chosen = self.fixed_gates.gates(shape, x.device)[:, 0].topk(self.top_k)
        if self.routing is not None:
            of_all = gates.new_zeros(len(gates), self.last.num_experts).scatter_(-1, chosen, gates.detach())
            seen = None if logits is None else logits.unsqueeze(1)
            self.routing.observe(self.index, seen, of_all.unsqueeze(1), shape)
        return chosen.t().unsqueeze(-1), gates.t().unsqueeze(-1)

    def _opened(self, member: LowRankExperts, x: Tensor, inner: Tensor) -> Tensor:
        """Return W_g x + b_g with the update of each choice: [S, ..., F]."""
        assert member.base is not None
        frozen = member.base(x)
        update = inner @ member.up.flatten(0, 1).to(inner.dtype)
        return torch.add(frozen, update.view(-1, *frozen.shape), alpha=self._scale(x))

    def _gated(self, opened: Tensor) -> Tensor:
        """Return the output of the network from what its choices give the last linear: [S, ..., F] to [..., O]."""
        chosen, member = self._chosen, self.last
        if chosen is None or opened.shape[:-1] != (self.top_k, *chosen.x.shape[:-1]):
            raise MethodError(
                "method=mixlora must have a model that computes a feed-forward network from its first to its last "
                f"linear with nothing but what each token has, got {list(opened.shape)} at the last; take method=mola"
            )
        assert member.base is not None
        self._chosen = None
        gates = chosen.gates.view(*opened.shape[:-1], 1).to(opened.dtype)
        y: Tensor = member.base((opened * gates).sum(0))
        inner = functional.linear(self._dropped(opened), member.down.flatten(0, 1).to(_dtype(opened)))
        weights = chosen.weights.unsqueeze(-1).to(inner.dtype)
        hidden = (inner.view(*weights.shape[:-1], -1) * weights).sum(0).flatten(1)
        update = hidden @ member.up.flatten(0, 1).to(hidden.dtype)
        return torch.add(y, update.view(y.shape), alpha=self._scale(opened))

    def _drop(self, x: Tensor) -> float:
        return drop_probability(self.dropout, x.device) if self.last.training else 0.0

    def _dropped(self, x: Tensor) -> Tensor:
        """Return x with some features zero; what is left is scaled where the update is."""
        probability = self._drop(x)
        return x * keep_mask(x, probability) if probability else x

    def _scale(self, x: Tensor) -> float:
        return self.scale / (1 - self._drop(x))


def _dtype(x: Tensor) -> torch.dtype:
    """Return the type in which products with x are computed."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
