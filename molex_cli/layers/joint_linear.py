"""A joint query-key-value linear, whose parts have low-rank experts of their own."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from molex_cli.layers.experts import LowRankExperts


class JointLinear(nn.Module):
    """A frozen linear whose output is its parts' one after the other, all equally wide, and updates of some of them.

    As in the published GPT-2 code of LoRA: query and value have factors A and B each, and the key has none.
    """

    def __init__(self, base: nn.Linear | Conv1D, names: Sequence[str], updates: Mapping[str, LowRankExperts]) -> None:
        super().__init__()
        self.base = base
        self.names = tuple(names)
        for name, update in updates.items():
            self.add_module(name, update)

    def forward(self, x: Tensor) -> Tensor:
        """Return the base's output with each update added to its part: [..., in] to [..., out]."""
        updates = dict(self.named_children())
        parts = self.base(x).chunk(len(self.names), -1)
        pairs = zip(self.names, parts, strict=True)
        return torch.cat([part + updates[name](x) if name in updates else part for name, part in pairs], -1)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the base with every update added to its part of the weight."""
        is_transposed = isinstance(self.base, Conv1D)
        weight_oi = self.base.weight.t().clone() if is_transposed else self.base.weight.clone()
        parts = dict(zip(self.names, weight_oi.chunk(len(self.names)), strict=True))
        for name, update in self.named_children():
            if isinstance(update, LowRankExperts):
                parts[name] += update.update_io().t()
        self.base.weight = nn.Parameter(weight_oi.t().contiguous() if is_transposed else weight_oi)
        return self.base
