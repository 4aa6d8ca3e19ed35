"""Router logits to gates, balance loss and usage: pure tensor functions without state.

Dimensions: T tokens, G routed linears that share one input, E experts of the layer.
"""

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
