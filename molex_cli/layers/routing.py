"""Router logits to gates, votes, balance loss and usage: pure tensor functions without state.

Dimensions: B sequences, T tokens, G routed linears that share one input, E experts of the layer.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


def probabilities(logits_TGE: Tensor) -> Tensor:
    """Return the softmax over experts, in float32: [T, G, E]."""
    if logits_TGE.device.type != "cpu":
        return logits_TGE.float().softmax(-1)
    # Tokens last: softmax over a short last dimension is several times slower on CPUs.
    return logits_TGE.float().movedim(0, -1).softmax(dim=-2).movedim(-1, 0)


def top_k_gates(logits_TGE: Tensor, top_k: int, nothing: Tensor | None = None) -> Tensor:
    """Return the `top_k` largest probabilities, renormalised to sum 1, zero elsewhere: [T, G, E] (MoLA, equation 1).

    `nothing` is minus infinity, a scalar of the logits' type, where a caller keeps one.
    """
    if top_k < logits_TGE.shape[-1]:
        # Renormalised, the largest of a softmax are the softmax of the largest.
        values, chosen = logits_TGE.topk(top_k, dim=-1, sorted=False)  # sorting is a kernel of its own on a GPU
        nothing = values.new_full((), -math.inf) if nothing is None else nothing
        logits_TGE = nothing.expand(logits_TGE.shape).scatter(-1, chosen, values)
    return probabilities(logits_TGE)


def softmax_backward(output_TGE: Tensor, grad_TGE: Tensor) -> Tensor:
    """Return the gradient of the logits of a softmax over experts: [T, G, E]."""
    if output_TGE.device.type != "cpu":
        return torch._softmax_backward_data(grad_TGE, output_TGE, -1, output_TGE.dtype)
    grad, output = grad_TGE.movedim(0, -1), output_TGE.movedim(0, -1)
    return torch._softmax_backward_data(grad, output, 1, output.dtype).movedim(-1, 0)


def balance_loss(load_JE: Tensor, importance_JE: Tensor, experts: Tensor | int | None = None) -> Tensor:
    """Return E * sum_i f_i P_i (Switch Transformers, equation 4): 1 when balanced, E/k on k experts: [J] or a scalar.

    `load_JE` is f, the share of all assignments that went to each expert; `importance_JE` is P, the mean router
    probability; both sum to 1. The gradient flows through P only. `experts` is E where layers are padded to the most.
    """
    experts = load_JE.shape[-1] if experts is None else experts
    return experts * (load_JE.detach() * importance_JE).sum(-1)


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


def routing_sums(
    probability_TGE: Tensor, gates_TGE: Tensor, weights_T: Tensor, variance_TG: Tensor | None = None
) -> Tensor:
    """Return for each linear the packed `RoutingSums` over weighted tokens: [G, 3 E + 3].

    `weights_T` is 1 for a token that counts and 0 for padding. The variance of the logits may be given, for layers
    that are padded with experts of no probability; else it is that of all E.
    """
    probability_GET, gates_GET = probability_TGE.movedim(0, -1), gates_TGE.movedim(0, -1)
    if variance_TG is None:
        logits_GET = probability_GET.clamp(min=torch.finfo(probability_GET.dtype).tiny).log()
        variance_TG = logits_GET.var(1, unbiased=False).t()
    best_G1T = probability_GET.argmax(1, keepdim=True)
    first_GET = torch.zeros_like(gates_GET).scatter_(1, best_G1T, 1.0)
    entropy_GT = entropy(probability_GET, 1)
    one = weights_T.new_ones(()).expand_as(entropy_GT)
    # In the order of the fields of `RoutingSums`, packed; a gate is above zero where it was chosen.
    numbers = [each.unsqueeze(1) for each in (entropy_GT, variance_TG.t(), one)]
    counted_GFT = torch.cat([gates_GET.sign(), gates_GET, first_GET, *numbers], 1)
    return (counted_GFT.flatten(0, 1) @ weights_T).view(counted_GFT.shape[:2])


def widened(packed_GF: Tensor, num_experts: int) -> Tensor:
    """Return packed `RoutingSums` for another number of experts: those that are missing have zeros."""
    sums = RoutingSums.unpacked(packed_GF)
    missing = num_experts - sums.chosen.shape[-1]
    # A negative number takes away.
    chosen, gate, first = (torch.nn.functional.pad(each, (0, missing)) for each in sums[:3])
    return sums._replace(chosen=chosen, gate=gate, first=first).packed()


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


@torch.inference_mode(False)  # passes outside it add to them
def running_totals(totals: Tensor | None, size: tuple[int, int], device: torch.device | None) -> Tensor:
    """Return totals on a device, or with None where they are; zeros of this size where there are none yet.

    They have the widest type of the device: sums over millions of tokens lose the last ones in a narrow one.
    """
    dtype = torch.float32 if device is not None and device.type == "mps" else torch.float64
    if totals is None:
        return torch.zeros(size, dtype=dtype, device=device)
    return totals if device is None else totals.to(device, dtype)  # those that were restored are on the CPU


def full_precision(like: Tensor) -> torch.autocast:
    """Return a context in which nothing is computed in less than the type of its tensors, on this one's device."""
    return torch.autocast(like.device.type, enabled=False)


def ballots(logits_BTE: Tensor, counted_BT: Tensor, none_BE: Tensor) -> Tensor:
    """Return how many counted tokens of each sequence rank each expert first, added to none: [B, E]."""
    return none_BE.scatter_add(1, logits_BTE.argmax(-1), counted_BT)


def majority(ballots_UE: Tensor) -> Tensor:
    """Return the expert with the most ballots, of equals the first: [U]."""
    return ballots_UE.argmax(-1)  # which is the first of equal maxima


def vote_margin(ballots_UE: Tensor) -> Tensor:
    """Return the winner's lead over the second as a share of all ballots: [..., U]; 1 is unanimous, 0 a tie or none."""
    if ballots_UE.shape[-1] == 1:
        return torch.ones_like(ballots_UE[..., 0])
    top_U2 = ballots_UE.topk(2, dim=-1).values
    return (top_U2[..., 0] - top_U2[..., 1]) / ballots_UE.sum(-1).clamp(min=1)


def entropy(probability_E: Tensor, dim: int = -1) -> Tensor:
    """Return the Shannon entropy over a dimension, in nats."""
    # torch.special.entr would be compiled at its first use on a GPU.
    return 0 - torch.xlogy(probability_E, probability_E).sum(dim)  # 0, and not -0, where there is one choice
