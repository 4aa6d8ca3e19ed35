"""The low-rank product itself: frozen linears with routed low-rank experts, as one autograd step.

For linears g that share the input x, with E experts each (LoRA is E = 1 without a router):

    y_g = W_g x + b_g + scale * sum_e gate_ge(x) B_ge A_ge dropout(x)        (MoLA, equations 1-4)

All A's, and all routers where nothing is dropped, are stacked into one product; gates below the top k
are zero, so all B's of a linear are one product too: static shapes, no loop over experts, no host sync.
What the backward needs is the input once for all linears, the rank-sized products and the dropout mask
in one byte a feature. Masks of single experts are such bytes for each, and their A's one product for each.

Dimensions: T tokens, I input features, O output features, G linears, E experts, R = G*E*rank.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from molex_cli.layers.routing import probabilities, top_k_gates

ROW_MULTIPLE = 16  # matrix kernels are up to a third slower when a dimension is not a multiple of this
LANES = 65536


@dataclass(frozen=True)
class Shape:
    """What the tensors of one call hold."""

    num_linears: int
    num_experts: int
    rank: int
    top_k: int
    scale: float
    routed: bool

    @property
    def ranks(self) -> int:
        """Return the rank of all experts of one linear."""
        return self.num_experts * self.rank


def drop_probability(probability: float, device: torch.device) -> float:
    """Return the dropout probability that `keep_mask` really has: on CPUs the nearest multiple of 1/65536."""
    return round(probability * LANES) / LANES if device.type == "cpu" else probability


def keep_mask(like: Tensor, probability: float) -> Tensor:
    """Return a mask that is False with the given probability."""
    # A CPU may draw random numbers in sequence, so 16 bits an element save time (docs/performance.md); GPUs draw in
    # parallel, and there torch's own mask is one kernel.
    draw = _mask_of_16_bits if like.device.type == "cpu" else _mask_of_torch
    return draw(like, probability)


def _mask_of_16_bits(like: Tensor, probability: float) -> Tensor:
    """Draw one number for four elements of the mask."""
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    lanes = words.view(torch.int16)[: like.numel()]
    return (lanes >= round(probability * LANES) - LANES // 2).view(like.shape)


def _mask_of_torch(like: Tensor, probability: float) -> Tensor:
    """Draw the mask as torch's dropout does."""
    return torch.empty_like(like, dtype=torch.bool).bernoulli_(1 - probability)


def stacked(*rows: Tensor) -> Tensor:
    """Return the matrices one below the other, zero rows added up to a multiple of ROW_MULTIPLE."""
    count = sum(part.shape[0] for part in rows)
    padding = rows[0].new_zeros(-count % ROW_MULTIPLE, rows[0].shape[1])
    return torch.cat([*rows, padding])


class RoutedLowRank(torch.autograd.Function):
    """Apply G linears with their low-rank experts to one input.

    Takes x [T, I], a keep mask [T, I], or one for each expert of each linear [G*E, T, I], or None, gates
    [T, G, E] instead of routers or None, a `Shape`, then G each of: W [O, I] or None, b [O] or None, A
    [E*rank, I], B [E*rank, O] and, if routed, routers [E, I]. Where W is None the update alone is
    returned. Returns the G outputs [T, O], then router probabilities [T, G, E] and gates [T, G, E] (None,
    None without routers); the probabilities carry gradients, the gates do not.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, keep: Tensor | None, fixed_gates: Tensor | None, shape: Shape, *tensors: Tensor | None
    ) -> tuple:
        """Return the outputs, probabilities and gates, and keep what the backward needs."""
        weights, biases, downs, ups, routers = _split(tensors, shape.num_linears)
        num_rows = shape.num_linears * shape.ranks
        one_product = shape.routed and keep is None
        down = stacked(*downs, *routers) if one_product else stacked(*downs)
        inner = _inner(x, keep, down, shape.rank)
        router, probability, gates = None, None, None
        if shape.routed:
            router = None if one_product else stacked(*routers)
            logits = inner[:, num_rows:] if router is None else x @ router.t()
            logits = logits[:, : shape.num_linears * shape.num_experts]
            probability = probabilities(logits.view(-1, shape.num_linears, shape.num_experts))
            gates = top_k_gates(probability, shape.top_k)
        used = gates if fixed_gates is None else fixed_gates
        spread: Tensor | float = shape.scale if used is None else _spread(used, shape, inner.dtype)
        hidden = inner[:, :num_rows] * spread
        outputs = []
        for g, (weight, bias, up) in enumerate(zip(weights, biases, ups, strict=True)):
            part = hidden[:, g * shape.ranks : (g + 1) * shape.ranks]
            outputs.append(part @ up if weight is None else _linear(x, weight, bias).addmm_(part, up))
        ctx.save_for_backward(x, keep, down, router, inner, probability, used, hidden, *weights, *ups)
        ctx.shape = shape
        ctx.set_materialize_grads(False)
        if gates is not None:
            ctx.mark_non_differentiable(gates)
        return (*outputs, probability, gates)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple:
        """Return the gradients of x and of the adapters' and routers' tensors."""
        shape: Shape = ctx.shape
        count = shape.num_linears
        x, keep, down, router, inner, probability, gates, hidden, *rest = ctx.saved_tensors
        weights, ups = rest[:count], rest[count:]
        rows = count * shape.ranks
        routed = slice(rows, rows + count * shape.num_experts)
        grad_hidden, grad_ups, grad_x = _grad_outputs(
            grads[:count], hidden, ups, weights if ctx.needs_input_grad[0] else [None] * count
        )
        # The gradient of `inner`, as stacked: all A's, then all routers where nothing was dropped.
        grad_inner = torch.zeros_like(inner)
        spread = shape.scale if gates is None else _spread(gates, shape, inner.dtype)
        torch.mul(grad_hidden, spread, out=grad_inner[:, :rows])
        grad_routed = None
        if shape.routed:
            grad_logits = _grad_logits(grad_hidden * inner[:, :rows], probability, gates, shape, grads[count])
            if router is None:
                grad_inner[:, routed] = grad_logits
            else:
                grad_routed = torch.nn.functional.pad(grad_logits, (0, router.shape[0] - grad_logits.shape[1]))
        grad_down = _grad_down(grad_inner, x, keep, shape.rank)
        grad_routers: Any = [None] * count
        if grad_routed is not None:
            grad_routers = (grad_routed.t() @ x)[: count * shape.num_experts].split(shape.num_experts)
        elif shape.routed:
            grad_routers = grad_down[routed].split(shape.num_experts)
        if ctx.needs_input_grad[0]:
            grad_x = _grad_input(grad_x, grad_inner, down, keep, shape.rank)
            if grad_routed is not None:
                grad_x.addmm_(grad_routed, router)
        none: list[Tensor | None] = [None] * count
        return (grad_x, None, None, None, *none, *none, *grad_down[:rows].split(shape.ranks), *grad_ups, *grad_routers)


def _grad_outputs(
    grads: Sequence[Tensor | None], hidden: Tensor, ups: Sequence[Tensor], weights: Sequence[Tensor | None]
) -> tuple[Tensor, list[Tensor | None], Tensor | None]:
    """Return what the outputs' gradients give to `hidden` [T, R], to each B, and through the frozen weights to x."""
    ranks = hidden.shape[1] // len(ups)
    grad_hidden = torch.empty_like(hidden)
    grad_ups: list[Tensor | None] = []
    grad_x = None
    for g, (grad_y, up, weight) in enumerate(zip(grads, ups, weights, strict=True)):
        columns = slice(g * ranks, (g + 1) * ranks)
        grad_hidden[:, columns] = 0.0 if grad_y is None else grad_y @ up.t()
        grad_ups.append(None if grad_y is None else hidden[:, columns].t() @ grad_y)
        if grad_y is not None and weight is not None:
            grad_x = grad_y @ weight if grad_x is None else grad_x.addmm_(grad_y, weight)
    return grad_hidden, grad_ups, grad_x


def _split(tensors: tuple[Tensor | None, ...], count: int) -> list[list[Any]]:
    return [list(tensors[i * count : (i + 1) * count]) for i in range(5)]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())


def _spread(gates: Tensor, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Return scale * gate for every rank of every expert: [T, R]."""
    scaled = (gates * shape.scale).to(dtype)
    return scaled.unsqueeze(-1).expand(*gates.shape, shape.rank).reshape(gates.shape[0], -1)


def _grad_logits(
    products: Tensor, probability: Tensor, gates: Tensor, shape: Shape, grad_probability: Tensor | None
) -> Tensor:
    """Return the gradient of the router logits, [T, G*E], from the task and from any use of the probabilities."""
    grad_gates = products.view(*gates.shape, shape.rank).sum(-1).float() * shape.scale
    # The renormalised top k of a softmax is the softmax of the chosen logits.
    grad_logits = _softmax_backward(gates, grad_gates)
    if grad_probability is not None:
        grad_logits += _softmax_backward(probability, grad_probability)
    return grad_logits.flatten(1).to(products.dtype)


def _softmax_backward(output: Tensor, grad_output: Tensor) -> Tensor:
    return output * (grad_output - (output * grad_output).sum(-1, keepdim=True))


def _of_experts(masks: Tensor, rank: int) -> Iterator[tuple[Tensor, slice]]:
    """Yield each expert's mask [T, I] with its rows of the stacked A's."""
    for index, mask in enumerate(masks):
        yield mask, slice(index * rank, (index + 1) * rank)


def _inner(x: Tensor, keep: Tensor | None, down: Tensor, rank: int) -> Tensor:
    """Return the stacked A's of what was kept of x: [T, rows of `down`]."""
    if keep is None or keep.ndim == 2:
        return (x if keep is None else x * keep) @ down.t()
    inner = x.new_zeros(x.shape[0], down.shape[0])
    for mask, rows in _of_experts(keep, rank):
        torch.mm(x * mask, down[rows].t(), out=inner[:, rows])
    return inner


def _grad_down(grad_inner: Tensor, x: Tensor, keep: Tensor | None, rank: int) -> Tensor:
    """Return the gradient of the stacked A's: [rows, I]."""
    if keep is None or keep.ndim == 2:
        return grad_inner.t() @ (x if keep is None else x * keep)
    grad_down = x.new_zeros(grad_inner.shape[1], x.shape[1])
    for mask, rows in _of_experts(keep, rank):
        torch.mm(grad_inner[:, rows].t(), x * mask, out=grad_down[rows])
    return grad_down


def _grad_input(grad_x: Tensor | None, grad_inner: Tensor, down: Tensor, keep: Tensor | None, rank: int) -> Tensor:
    """Return the gradient of x with what came through the stacked A's added: [T, I]."""
    if keep is None:
        return grad_inner @ down if grad_x is None else grad_x.addmm_(grad_inner, down)
    if keep.ndim == 2:
        grad_dropped = (grad_inner @ down).mul_(keep)
    else:
        grad_dropped = grad_inner.new_zeros(keep.shape[1:])
        for mask, rows in _of_experts(keep, rank):
            grad_dropped.addcmul_(grad_inner[:, rows] @ down[rows], mask)
    return grad_dropped if grad_x is None else grad_x.add_(grad_dropped)
