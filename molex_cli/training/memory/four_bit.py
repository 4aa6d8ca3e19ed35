"""A linear of 4 bits a weight in sizes alone: what bitsandbytes' Linear4bit keeps and computes (arXiv 2305.14314)."""

from typing import Any

import torch
from torch import Tensor, nn

BLOCK, SECOND_BLOCK = 64, 256  # weights that share a scale, scales that share one of their own


class FourBitLinear(nn.Module):
    """Holds half a byte a weight, a byte for each block of them, and four bytes for each block of those."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        count = linear.weight.numel()
        blocks = -(-count // BLOCK)
        self.weight = nn.Parameter(torch.empty(-(-count // 2), 1, dtype=torch.uint8), requires_grad=False)
        self.register_buffer("scales", torch.empty(blocks, dtype=torch.uint8))
        self.register_buffer("scales_of_scales", torch.empty(-(-blocks // SECOND_BLOCK)))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return the product in the type of x: [..., in] to [..., out]."""
        bias = None if self.bias is None else self.bias.to(torch.bfloat16)
        product = _Product.apply(x.to(torch.bfloat16), self.weight, bias, (self.out_features, self.in_features))
        return product.to(x.dtype)


class _Product(torch.autograd.Function):
    """Unpacks the weight where it is used, forward and backward, and keeps the packed one alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, bias: Tensor | None, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(packed)
        ctx.shape = shape
        return nn.functional.linear(x, _unpacked(packed, shape), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        (grad,) = grads
        bias = grad.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        return grad @ _unpacked(ctx.saved_tensors[0], ctx.shape), None, bias, None


def _unpacked(packed: Tensor, shape: tuple[int, int]) -> Tensor:
    return packed.new_empty(shape, dtype=torch.bfloat16)
