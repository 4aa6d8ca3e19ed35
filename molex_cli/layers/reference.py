"""MoLA and MixLoRA as plain loops over experts, written from the formula: oracles of tests, MoLA's the bench's too."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from molex_cli.layers.experts import LowRankExperts


class LoopExperts(nn.Module):
    """The same parameters as a `LowRankExperts`, applied expert by expert to the tokens that chose it."""

    def __init__(
        self,
        experts: LowRankExperts,
        *,
        top_k: int,
        scale: float,
        dropout: float,
        dropout_per_expert: bool = False,
    ) -> None:
        super().__init__()
        self.experts, self.dropout_per_expert = experts, dropout_per_expert
        self.top_k, self.scale = min(top_k, experts.num_experts), scale
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b + scale * sum over the chosen e of S_e(x) B_e A_e dropout(x): [..., in] to [..., out]."""
        weights, chosen = self._routed(x)
        dropped = self.dropout(x)
        y = x.new_zeros(()) if self.experts.base is None else self.experts.base(x)
        y = y.expand(*x.shape[:-1], self.experts.up.shape[-1])
        for e in range(self.experts.num_experts):
            dropped = self.dropout(x) if self.dropout_per_expert else dropped
            *token, slot = (chosen == e).nonzero(as_tuple=True)
            update = dropped[tuple(token)] @ self.experts.down[e].t() @ self.experts.up[e]
            own = self.scale * weights[(*token, slot)].unsqueeze(-1) * update
            y = y.index_put(tuple(token), own.to(y.dtype), accumulate=True)
        return y

    def _routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the renormalised weights and the indices of the chosen experts: [..., k], [..., k]."""
        if self.experts.router is None:
            return x.new_ones(*x.shape[:-1], 1), torch.zeros(*x.shape[:-1], 1, dtype=torch.long, device=x.device)
        probability = (x @ self.experts.router.t()).float().softmax(dim=-1)
        weights, chosen = probability.topk(self.top_k, dim=-1)
        return (weights / weights.sum(-1, keepdim=True)).to(x.dtype), chosen


class LoopFeedForward(nn.Module):
    """The same parameters as a `RoutedFeedForward`, expert by expert: each is the whole network with its updates.

    `between` is what the model computes of the first linears' outputs: an activation, or a gated one.
    """

    def __init__(
        self,
        inputs: Sequence[LowRankExperts],
        output: LowRankExperts,
        between: Callable[..., Tensor],
        *,
        top_k: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.inputs: Any = nn.ModuleList(inputs)
        self.output, self.between = output, between
        self.top_k, self.scale = min(top_k, output.num_experts), scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum over the chosen e of S_e(x) times the output of network e: [..., in] to [..., out]."""
        flat = x.reshape(-1, x.shape[-1])
        probability = (flat @ self.inputs[0].router.t()).float().softmax(dim=-1)
        weights, chosen = probability.topk(self.top_k, dim=-1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(x.dtype)
        y = x.new_zeros(len(flat), self.output.up.shape[-1])
        for e in range(self.output.num_experts):
            token, slot = (chosen == e).nonzero(as_tuple=True)
            inner = self.between(*(self._updated(linear, e, flat[token]) for linear in self.inputs))
            own = weights[token, slot].unsqueeze(-1) * self._updated(self.output, e, inner)
            y = y.index_put((token,), own, accumulate=True)
        return y.view(*x.shape[:-1], -1)

    def _updated(self, linear: Any, expert: int, x: Tensor) -> Tensor:
        """Return W x + b + scale * B_e A_e x: [T, in] to [T, out]."""
        y: Tensor = linear.base(x) + self.scale * (x @ linear.down[expert].t() @ linear.up[expert])
        return y
