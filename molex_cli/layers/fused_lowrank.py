"""The low-rank product itself: frozen linears with routed low-rank experts, as one autograd step.

For linears g that share the input x, with E experts each (LoRA is E = 1 without a router):

    y_g = W_g x + b_g + scale * sum_e gate_ge(x) B_ge A_ge dropout(x)        (MoLA, equations 1-4)

All A's, and all routers where nothing is dropped, are stacked into one product; gates below the top k
are zero, so all B's of a linear are one product too: static shapes, no loop over experts, no host sync.
What the backward needs is the input once for all linears, the rank-sized products and the dropout mask
in one byte a feature; without a router the dropped input stands for the input. Masks of single experts are
such bytes for each, and their A's one product for each. The scale is a factor of products that are there anyway.

Dimensions: T tokens, I input features, O output features, G linears, E experts, R = G*E*rank.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from molex_cli.layers.routing import softmax_backward, top_k_gates

LANES = 65536


@dataclass(frozen=True)
class Shape:
    """What the tensors of one call hold."""

    num_linears: int
    num_experts: int
    rank: int
    top_k: int
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
    count = -(-like.numel() // 4)
    if torch.compiler.is_compiling():  # random_ would break the graph
        words = torch.randint(-(2**63), 2**63 - 1, (count,), device=like.device)
    else:
        words = torch.empty(count, dtype=torch.int64, device=like.device).random_(-(2**63), None)
    lanes = words.view(torch.int16)[: like.numel()]
    return (lanes >= round(probability * LANES) - LANES // 2).view(like.shape)


def _mask_of_torch(like: Tensor, probability: float) -> Tensor:
    """Draw the mask as torch's dropout does."""
    return torch.empty_like(like, dtype=torch.bool).bernoulli_(1 - probability)


class RoutedLowRank(torch.autograd.Function):
    """Apply G linears with their low-rank experts to one input.

    Takes x [T, I], a keep mask [T, I], or one for each expert of each linear [G*E, T, I], or None, gates [T, G, E]
    instead of routers or None, a `Shape`, the scale, the stacked A's and routers as one matrix [R + G*E or more, I],
    minus infinity if it is kept, then G each of: W [O, I] or None, b [O] or None, A [E, rank, I], B [E, rank, O] and,
    if routed, routers [E, I]. Where W is None the update alone is returned. Returns the G outputs [T, O], then router
    logits [T, G, E] and gates [T, G, E] (None, None without routers); logits carry gradients, gates do not.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        keep: Tensor | None,
        fixed_gates: Tensor | None,
        shape: Shape,
        scale: float,
        stacked: Tensor,
        nothing: Tensor | None,
        *tensors: Tensor | None,
    ) -> tuple:
        """Return the outputs, logits and gates, and keep what the backward needs."""
        weights, biases, _, ups, _ = _split(tensors, shape.num_linears)
        ups = [up.flatten(0, 1).to(x.dtype) for up in ups]
        ctx.trained_dtype = stacked.dtype
        stacked = stacked.to(x.dtype)
        rows = shape.num_linears * shape.ranks
        one_product = shape.routed and keep is None
        # Without a router the backward pass needs no more of x than what was kept of it. A router's gradient needs all
        # of it, and then what was kept is made again: memory is dearer.
        keeps_dropped = keep is not None and keep.ndim == 2 and not shape.routed
        dropped = x * keep if keep is not None and keeps_dropped else x
        inner = _inner(dropped, None if keeps_dropped else keep, stacked if one_product else stacked[:rows], shape.rank)
        logits, gates = None, None
        if shape.routed:
            scores = inner[:, rows:] if one_product else x @ stacked[rows:].t()
            logits = scores[:, : shape.num_linears * shape.num_experts].view(len(x), shape.num_linears, -1)
            gates = top_k_gates(logits, shape.top_k, nothing)
        used = gates if fixed_gates is None else fixed_gates
        inner = inner[:, :rows]
        hidden = inner
        if used is not None:
            hidden = (_by_expert(inner, shape) * used.to(x.dtype).unsqueeze(-1)).flatten(1)
        outputs = []
        for g, (weight, bias, up) in enumerate(zip(weights, biases, ups, strict=True)):
            part = hidden[:, g * shape.ranks : (g + 1) * shape.ranks]
            if weight is None:
                outputs.append(torch.addmm(up[:1], part, up, beta=0, alpha=scale))
            else:
                outputs.append(_plus(_linear(x, weight, bias), part, up, scale))
        ctx.save_for_backward(dropped, keep, stacked, inner, used, hidden, *weights, *ups)
        ctx.shape, ctx.scale, ctx.keeps_dropped = shape, scale, keeps_dropped
        ctx.set_materialize_grads(False)
        if gates is not None:
            ctx.mark_non_differentiable(gates)
        return (*outputs, logits, gates)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple:
        """Return the gradients of x and of the adapters' and routers' tensors."""
        shape: Shape = ctx.shape
        count = shape.num_linears
        x, keep, stacked, inner, gates, hidden, *rest = ctx.saved_tensors
        weights, ups = rest[:count], rest[count:]
        rows = count * shape.ranks
        # The gradient of what the stacked matrix gives: of all A's, then of all routers where nothing was dropped.
        whole = x.new_zeros(x.shape[0], stacked.shape[0]) if shape.routed and keep is None else None
        grad_inner = _grad_hidden(grads[:count], hidden, ups, shape, ctx.scale, whole)
        grad_ups = _grad_ups(grads[:count], hidden, ups, shape, ctx.scale)
        grad_x = _through_frozen(grads[:count], weights) if ctx.needs_input_grad[0] else None
        grad_logits = None
        if shape.routed:
            into = None if whole is None else whole[:, rows : rows + count * shape.num_experts]
            grad_logits = _grad_logits(grad_inner, inner, gates, shape, grads[count], into)
        if gates is not None:
            _by_expert(grad_inner, shape).mul_(gates.unsqueeze(-1))
        grad_stacked = _grad_down(grad_inner if whole is None else whole, x, keep, shape.rank, ctx.keeps_dropped)
        grad_stacked = grad_stacked.to(ctx.trained_dtype)  # at once, where autograd would do it for each parameter
        grad_routers = grad_stacked[rows:]
        if ctx.needs_input_grad[0]:
            grad_x = _grad_input(grad_x, grad_inner if whole is None else whole, stacked, keep, shape.rank)
        if grad_logits is not None and whole is None:
            grad_routers = (grad_logits.t() @ x).to(ctx.trained_dtype)
            if grad_x is not None:
                grad_x.addmm_(grad_logits, stacked[rows : rows + grad_logits.shape[1]])
        none: list[Tensor | None] = [None] * count
        downs = grad_stacked[:rows].view(count, shape.num_experts, shape.rank, -1).unbind()
        routers = grad_routers[: count * shape.num_experts].split(shape.num_experts) if shape.routed else none
        return (grad_x, None, None, None, None, None, None, *none, *none, *downs, *grad_ups, *routers)


def _grad_hidden(
    grads: Sequence[Tensor | None],
    hidden: Tensor,
    ups: Sequence[Tensor],
    shape: Shape,
    scale: float,
    whole: Tensor | None,
) -> Tensor:
    """Return what the outputs' gradients give to `hidden` [T, R]; in the first columns of `whole` if that is given."""
    if whole is None and len(ups) == 1 and grads[0] is not None:
        return torch.addmm(hidden, grads[0], ups[0].t(), beta=0, alpha=scale)
    grad_hidden = hidden.new_empty(hidden.shape) if whole is None else whole[:, : hidden.shape[1]]
    for part, grad_y, up in zip(grad_hidden.split(shape.ranks, 1), grads, ups, strict=True):
        if grad_y is None:
            part.zero_()
        else:
            part.addmm_(grad_y, up.t(), beta=0, alpha=scale)
    return grad_hidden


def _grad_ups(
    grads: Sequence[Tensor | None], hidden: Tensor, ups: Sequence[Tensor], shape: Shape, scale: float
) -> list[Tensor | None]:
    """Return the gradient of each B: [E, rank, O]."""
    size = shape.num_experts, shape.rank, -1
    return [
        None if grad_y is None else torch.addmm(up, part.t(), grad_y, beta=0, alpha=scale).view(size)
        for grad_y, up, part in zip(grads, ups, hidden.split(shape.ranks, 1), strict=True)
    ]


def _through_frozen(grads: Sequence[Tensor | None], weights: Sequence[Tensor | None]) -> Tensor | None:
    """Return what the outputs' gradients give to x through the frozen weights: [T, I]."""
    grad_x = None
    for grad_y, weight in zip(grads, weights, strict=True):
        if grad_y is not None and weight is not None:
            grad_x = grad_y @ weight if grad_x is None else grad_x.addmm_(grad_y, weight)
    return grad_x


def _split(tensors: tuple[Tensor | None, ...], count: int) -> list[list[Any]]:
    return [list(tensors[i * count : (i + 1) * count]) for i in range(5)]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())


def _plus(y: Tensor, left: Tensor, right: Tensor, scale: float) -> Tensor:
    """Return y + scale * left @ right, in the place of y."""
    # Compiled, torch 2.11 loses the gradients of a function that changes its outputs in place.
    compiled = torch.compiler.is_compiling()
    return torch.addmm(y, left, right, alpha=scale) if compiled else y.addmm_(left, right, alpha=scale)


def _by_expert(values_TR: Tensor, shape: Shape) -> Tensor:
    """Return a view by linear, expert and rank: [T, G, E, rank]."""
    return values_TR.view(values_TR.shape[0], shape.num_linears, shape.num_experts, shape.rank)


def _grad_logits(
    grad_hidden: Tensor, inner: Tensor, gates: Tensor, shape: Shape, of_logits: Tensor | None, into: Tensor | None
) -> Tensor:
    """Return the gradient of the router logits [T, G*E] from the task and from any use of them; written `into` one."""
    grad_gates = _by_expert(grad_hidden * inner, shape).sum(-1)
    # The renormalised top k of a softmax is the softmax of the chosen logits.
    grad = softmax_backward(gates, grad_gates.float())
    into = None if into is None else into.view(grad.shape)
    if of_logits is not None and into is not None and not torch.compiler.is_compiling():
        grad = torch.add(grad, of_logits, out=into)
    else:
        grad = grad if of_logits is None else grad + of_logits
        grad = grad if into is None else into.copy_(grad)
    return grad.flatten(1).to(inner.dtype)


def _of_experts(masks: Tensor, rank: int) -> Iterator[tuple[Tensor, slice]]:
    """Yield each expert's mask [T, I] with its rows of the stacked A's."""
    for index, mask in enumerate(masks):
        yield mask, slice(index * rank, (index + 1) * rank)


def _inner(x: Tensor, keep: Tensor | None, down: Tensor, rank: int) -> Tensor:
    """Return the stacked A's of what was kept of x: [T, rows of `down`]."""
    if keep is None or keep.ndim == 2:
        return (x if keep is None else x * keep) @ down.t()
    inner = x.new_empty(x.shape[0], down.shape[0])
    for mask, rows in _of_experts(keep, rank):
        torch.mm(x * mask, down[rows].t(), out=inner[:, rows])
    return inner


def _grad_down(grad_inner: Tensor, x: Tensor, keep: Tensor | None, rank: int, is_dropped: bool) -> Tensor:
    """Return the gradient of the stacked A's: [rows, I]; x may have been dropped already."""
    if keep is None or keep.ndim == 2:
        return grad_inner.t() @ (x if keep is None or is_dropped else x * keep)
    grad_down = x.new_empty(grad_inner.shape[1], x.shape[1])
    for mask, rows in _of_experts(keep, rank):
        torch.mm(grad_inner[:, rows].t(), x * mask, out=grad_down[rows])
    return grad_down


def _grad_input(grad_x: Tensor | None, grad_inner: Tensor, stacked: Tensor, keep: Tensor | None, rank: int) -> Tensor:
    """Return the gradient of x with what came through the stacked A's added: [T, I]."""
    down = stacked[: grad_inner.shape[1]]
    if keep is None:
        return grad_inner @ down if grad_x is None else grad_x.addmm_(grad_inner, down)
    if keep.ndim == 2:
        grad_dropped = grad_inner @ down
        return grad_dropped.mul_(keep) if grad_x is None else grad_x.addcmul_(grad_dropped, keep)
    grad_x = grad_inner.new_zeros(keep.shape[1:]) if grad_x is None else grad_x
    for mask, rows in _of_experts(keep, rank):
        grad_x.addcmul_(grad_inner[:, rows] @ down[rows], mask)
    return grad_x
