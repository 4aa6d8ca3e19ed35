"""Router logits to gates, votes, balance loss and usage: pure tensor functions without state.

Dimensions: B sequences, T tokens, G routed linears that share one input, E experts of the layer.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


def probabilities(logits_TGE: Tensor) -> Tensor:
    """Return the softmax over experts, in float32: [T, G, E]."""
    # Tokens last: softmax over a short last dimension is several times slower on CPUs.
    return logits_TGE.float().movedim(0, -1).softmax(dim=-2).movedim(-1, 0)


def top_k_gates(probability_TGE: Tensor, top_k: int) -> Tensor:
    """Return the `top_k` largest probabilities, renormalised to sum 1, zero elsewhere: [T, G, E] (MoLA, equation 1)."""
    if top_k >= probability_TGE.shape[-1]:
        return probability_TGE
    values, chosen = probability_TGE.topk(top_k, dim=-1)
    return torch.zeros_like(probability_TGE).scatter_(-1, chosen, values / values.sum(-1, keepdim=True))


def balance_loss(load_E: Tensor, importance_E: Tensor) -> Tensor:
    """Return E * sum_i f_i P_i (Switch Transformers, equation 4): 1 when balanced, E/k on k experts.

    `load_E` is f, the share of all assignments that went to each expert; `importance_E` is P, the
    mean router probability; both sum to 1. The gradient flows through P only.
    """
    return load_E.shape[-1] * (load_E.detach() * importance_E).sum()


def importance_and_load(probability_TGE: Tensor, gates_TGE: Tensor, weights_T: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over weighted tokens and linears of probability and of assignments: [E], [E].

    `weights_T` is 1 for a token that counts and 0 for padding. Dividing each sum by its own total
    gives P and f of `balance_loss`.
    """
    tokens, linears, experts = probability_TGE.shape
    assigned_TGE = (gates_TGE.detach() > 0).to(weights_T.dtype)
    importance = weights_T @ probability_TGE.reshape(tokens, -1)
    load = weights_T @ assigned_TGE.reshape(tokens, -1)
    return importance.view(linears, experts).sum(0), load.view(linears, experts).sum(0)


class RoutingSums(NamedTuple):
    """What is counted of a linear's routing, summed over weighted tokens; stored packed into one tensor [..., 3 E + 3].

    Nothing larger than the router's own output is kept.
    """

    chosen: Tensor
    """How often each expert was chosen: [..., E]."""
    gate: Tensor
    """The gates that each expert got: [..., E]."""
    first: Tensor
    """How often each expert was the router's first: [..., E]."""
    entropy: Tensor
    """Of the router's distribution: [...]."""
    logit_variance: Tensor
    """The mean square of the logits about their mean, which is all that a softmax sees of them: [...]."""
    tokens: Tensor
    """The number of tokens: [...]."""

    @staticmethod
    def width(num_experts: int) -> int:
        """Return the size of the last dimension of packed sums."""
        return 3 * num_experts + 3

    @classmethod
    def unpacked(cls, packed: Tensor) -> "RoutingSums":
        """Return packed sums by name."""
        experts = (packed.shape[-1] - 3) // 3
        chosen, gate, first, numbers = packed.split([experts, experts, experts, 3], -1)
        return cls(chosen, gate, first, *numbers.unbind(-1))

    def packed(self) -> Tensor:
        """Return everything in one tensor, in the order of the fields: stored states hold it so."""
        numbers = torch.stack([self.entropy, self.logit_variance, self.tokens], -1)
        return torch.cat([self.chosen, self.gate, self.first, numbers], -1)


def routing_sums(probability_TGE: Tensor, gates_TGE: Tensor, weights_T: Tensor) -> Tensor:
    """Return for each linear the packed `RoutingSums` over weighted tokens: [G, 3 E + 3]."""
    chosen = (gates_TGE > 0).to(weights_T.dtype)
    first = torch.nn.functional.one_hot(probability_TGE.argmax(-1), probability_TGE.shape[-1]).to(weights_T.dtype)
    logits = probability_TGE.clamp(min=torch.finfo(probability_TGE.dtype).tiny).log()
    variance, one = logits.var(-1, unbiased=False), torch.ones_like(logits[..., 0])
    counted = RoutingSums(chosen, gates_TGE, first, entropy(probability_TGE), variance, one).packed()
    return (weights_T @ counted.flatten(1)).view(counted.shape[1:])


def statistics(packed_GF: Tensor, top_k: int) -> dict[str, Any]:
    """Return the statistics of packed `RoutingSums` over the linears together.

    `usage` is the share of the assignments by expert, `gate` the mean gate of an expert when chosen, `entropy` that
    of the router's distribution in nats, `effective` the number of experts that an even use of as many would have
    (the exponential of the entropy of the usage), `top1` the share of tokens whose first choice is the commonest,
    `dead` how many experts no token chose, `logit` the root mean square of the logits about their mean. `utilisation`
    is 0 where top_k experts do all the work and 1 where all share alike; None where no more than top_k are there.
    """
    sums = RoutingSums.unpacked(packed_GF.double().sum(0))
    experts, any_chosen = len(sums.chosen), bool(sums.chosen.any())
    tokens = max(float(sums.tokens), 1e-9)
    usage = sums.chosen / sums.chosen.sum().clamp(min=1e-9)
    effective = float(entropy(usage).exp()) if any_chosen else 0.0
    return {
        "usage": usage.tolist(),
        "gate": (sums.gate / sums.chosen.clamp(min=1e-9)).tolist(),
        "entropy": float(sums.entropy) / tokens,
        "effective": effective,
        "top1": float(sums.first.max()) / tokens,
        "dead": int((sums.chosen == 0).sum()) if any_chosen else 0,
        "logit": math.sqrt(float(sums.logit_variance) / tokens),
        "utilisation": (effective - top_k) / (experts - top_k) if experts > top_k and any_chosen else None,
    }


def ballots(logits_BTE: Tensor, counted_BT: Tensor) -> Tensor:
    """Return how many counted tokens of each sequence rank each expert first: [B, E]."""
    first_BTE = torch.nn.functional.one_hot(logits_BTE.argmax(-1), logits_BTE.shape[-1])
    return torch.einsum("bt,bte->be", counted_BT, first_BTE.to(counted_BT.dtype))


def majority(ballots_UE: Tensor) -> Tensor:
    """Return the expert with the most ballots, of equals the first: [U]."""
    most_U1 = ballots_UE.amax(-1, keepdim=True)
    return (ballots_UE == most_U1).int().argmax(-1)  # argmax returns the first of equal maxima


def vote_margin(ballots_UE: Tensor) -> Tensor:
    """Return the winner's lead over the second as a share of all ballots: [U]; 1 is unanimous, 0 a tie or none."""
    if ballots_UE.shape[-1] == 1:
        return torch.ones_like(ballots_UE[:, 0])
    top_U2 = ballots_UE.topk(2, dim=-1).values
    return (top_U2[:, 0] - top_U2[:, 1]) / ballots_UE.sum(-1).clamp(min=1)


def entropy(probability_E: Tensor) -> Tensor:
    """Return the Shannon entropy over the last dimension, in nats."""
    return torch.special.entr(probability_E).sum(-1)
