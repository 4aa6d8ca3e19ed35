"""Router logits to gates, votes, balance loss and usage: pure tensor functions without state.

Dimensions: B sequences, T tokens, G routed linears that share one input, E experts of the layer.
"""

import math
from typing import Any

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


def tallies(probability_TGE: Tensor, gates_TGE: Tensor, weights_T: Tensor) -> Tensor:
    """Return for each linear the sums over weighted tokens that `figures` reads: [G, 3 E + 3].

    By expert: how often it was chosen, its gate when chosen, how often it was the router's first; then the entropy of
    the router's distribution, the mean square of the logits about their mean (all that a softmax sees of them), and
    the number of tokens. Nothing larger than the router's own output is kept.
    """
    chosen = (gates_TGE > 0).to(weights_T.dtype)
    first = torch.nn.functional.one_hot(probability_TGE.argmax(-1), probability_TGE.shape[-1]).to(weights_T.dtype)
    logits = probability_TGE.clamp(min=torch.finfo(probability_TGE.dtype).tiny).log()
    spread = torch.stack(
        [entropy(probability_TGE), logits.var(-1, unbiased=False), torch.ones_like(logits[..., 0])], -1
    )
    counted = torch.cat([chosen, gates_TGE, first, spread], -1)
    return (weights_T @ counted.flatten(1)).view(counted.shape[1:])


def figures(tallies_GF: Tensor, top_k: int) -> dict[str, Any]:
    """Return what the sums of `tallies` say of the linears together.

    `usage` is the share of the assignments by expert, `gate` the mean gate of an expert when chosen, `entropy` that
    of the router's distribution in nats, `effective` the number of experts that an even use of as many would have
    (the exponential of the entropy of the usage), `top1` the share of tokens whose first choice is the commonest,
    `dead` how many experts no token chose, `logit` the root mean square of the logits about their mean. `utilisation`
    is 0 where top_k experts do all the work and 1 where all share alike; None where no more than top_k are there.
    """
    sums = tallies_GF.double().sum(0)
    experts = (len(sums) - 3) // 3
    chosen, gate, first, rest = sums.split([experts, experts, experts, 3])
    tokens = max(float(rest[2]), 1e-9)
    usage = chosen / chosen.sum().clamp(min=1e-9)
    effective = float(entropy(usage).exp()) if chosen.any() else 0.0
    return {
        "usage": usage.tolist(),
        "gate": (gate / chosen.clamp(min=1e-9)).tolist(),
        "entropy": float(rest[0]) / tokens,
        "effective": effective,
        "top1": float(first.max()) / tokens,
        "dead": int((chosen == 0).sum()) if chosen.any() else 0,
        "logit": math.sqrt(float(rest[1]) / tokens),
        "utilisation": (effective - top_k) / (experts - top_k) if experts > top_k and chosen.any() else None,
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
