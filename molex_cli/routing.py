"""Router logits to gates, balance loss and usage: pure tensor functions without state.

Dimensions: T tokens, G routed linears that share one input, E experts of the layer.
"""

import torch
from torch import Tensor


def top_k_gates(logits_TGE: Tensor, top_k: int) -> Tensor:
    """Return softmax weights over the `top_k` largest logits, zero elsewhere, in float32: [T, G, E].

    Softmax, then top-k, then renormalise (MoLA, equations 1-2) is the softmax of the chosen logits.
    """
    logits_TGE = logits_TGE.float()
    if top_k < logits_TGE.shape[-1]:
        chosen = logits_TGE.topk(top_k, dim=-1).indices
        others = torch.ones_like(logits_TGE, dtype=torch.bool).scatter_(-1, chosen, False)
        logits_TGE = logits_TGE.masked_fill(others, -torch.inf)
    return logits_TGE.softmax(dim=-1)


def balance_loss(load_E: Tensor, importance_E: Tensor) -> Tensor:
    """Return E * sum_i f_i P_i (Switch Transformers, equation 4): 1 when balanced, E/k on k experts.

    `load_E` is f, the share of all assignments that went to each expert; `importance_E` is P, the
    mean router probability; both sum to 1. The gradient flows through P only.
    """
    return load_E.shape[-1] * (load_E.detach() * importance_E).sum()


def importance_and_load(logits_TGE: Tensor, gates_TGE: Tensor, weights_T: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over weighted tokens and linears of probability and of assignments: [E], [E].

    `weights_T` is 1 for a token that counts and 0 for padding. Dividing each sum by its own total
    gives P and f of `balance_loss`.
    """
    weights = weights_T.to(torch.float32)
    probability_GE = torch.einsum("t,tge->ge", weights, logits_TGE.float().softmax(dim=-1))
    assigned_GE = torch.einsum("t,tge->ge", weights, (gates_TGE.detach() > 0).float())
    return probability_GE.sum(0), assigned_GE.sum(0)
