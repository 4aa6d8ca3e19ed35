"""Frozen linears with low-rank experts, as modules; linears that share an input are computed together."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from molex_cli.layers.fixed_gates import FixedGates
from molex_cli.layers.fused_lowrank import RoutedLowRank, Shape, drop_probability, keep_mask
from molex_cli.layers.routing_statistics import LayerRouting
from molex_cli.layers.stacked_rows import StackedRows


class Computed(Protocol):
    """What computes several linears together."""

    scale: float
    """Factor of B A."""

    def output(self, member: "LowRankExperts", x: Tensor) -> Tensor:
        """Return the output of one of them for x."""


class LowRankExperts(nn.Module):
    """A frozen linear with E low-rank experts and, where E > 1 and unless `routed` is off, a bias-free router.

    `base` is an nn.Linear or GPT-2's Conv1D, or any other module with the same input and output (a
    quantised linear, say), whose output the update is then added to; without one the module is the update alone.
    An untrained module leaves the base's output as it was: B starts at zero, A and the router as
    kaiming_uniform(a=sqrt 5).
    """

    def __init__(
        self,
        base: nn.Module | None,
        size: tuple[int, int],
        num_experts: int,
        rank: int,
        *,
        routed: bool = True,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        num_in, num_out = size
        bound = num_in**-0.5
        device = device if base is None else next(base.parameters()).device
        self.base = base
        self.num_experts, self.rank = num_experts, rank
        self.down = nn.Parameter(torch.empty(num_experts, rank, num_in, device=device).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(num_experts, rank, num_out, device=device))
        self.router = None
        if num_experts > 1:
            # Drawn in any case, so that experts start alike with and without a router.
            router = torch.empty(num_experts, num_in, device=device).uniform_(-bound, bound)
            self.router = nn.Parameter(router) if routed else None
        self.fused: Computed | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the base's output plus the experts' update: [..., in] to [..., out]."""
        assert self.fused is not None, "a LowRankExperts module belongs to what computes it"
        return self.fused.output(self, x)

    @property
    def is_transposed(self) -> bool:
        """Return whether the base keeps its weight as [in, out], as GPT-2's linears do."""
        return isinstance(self.base, Conv1D)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the base linear with W + scale x sum over experts of B A, both of [out, in]."""
        assert isinstance(self.base, nn.Linear | Conv1D)
        update_io = self.update_io()
        # A new tensor: copies of a model may share the old one.
        self.base.weight = nn.Parameter(self.base.weight + (update_io if self.is_transposed else update_io.t()))
        return self.base

    def update_io(self) -> Tensor:
        """Return scale x sum over experts of B A: [in, out]."""
        assert self.fused is not None
        return torch.einsum("eri,ero->io", self.down, self.up) * self.fused.scale

    def flops_per_token(self, top_k: int | None) -> float:
        """Return the forward FLOPs of the update; with `top_k`, of the chosen experts only."""
        num_in, num_out = self.down.shape[-1], self.up.shape[-1]
        experts = self.num_experts if top_k is None else min(top_k, self.num_experts)
        router = 2 * num_in * self.num_experts if self.router is not None else 0
        return 2 * experts * self.rank * (num_in + num_out) + router


class FusedLinears:
    """Linears that are called one after the other with the same tensor, computed at the first call.

    The others pick up their output. Whether the input is the same is decided by identity, so a linear
    that is called with another tensor is simply computed for that one. All drop the same features, or
    with `dropout_per_expert` each expert of each linear its own.
    """

    def __init__(
        self,
        members: Sequence[LowRankExperts],
        *,
        top_k: int,
        scale: float,
        dropout: float,
        dropout_per_expert: bool = False,
        routing: LayerRouting | None = None,
        names: Sequence[str] = (),
        fixed_gates: FixedGates | None = None,
    ) -> None:
        self.members = list(members)
        self.scale = scale
        self.dropout, self.dropout_per_expert = dropout, dropout_per_expert
        self.routing = routing
        self.fixed_gates = fixed_gates
        self.index = routing.join(names or [str(i) for i in range(len(members))]) if routing else 0
        first = self.members[0]
        self.shape = Shape(
            num_linears=len(self.members),
            num_experts=first.num_experts,
            rank=first.rank,
            top_k=min(top_k, first.num_experts),
            routed=first.router is not None,
        )
        routers = [member.router for member in self.members if member.router is not None]
        self.stacked = StackedRows([*(member.down for member in self.members), *routers])
        self._nothing: Tensor | None = None
        self._input: Tensor | None = None
        self._waiting: dict[LowRankExperts, Tensor] = {}
        for member in self.members:
            member.fused = self

    def __getstate__(self) -> dict[str, Any]:
        """Leave what a forward pass began out of copies: it hangs on the graph of the original."""
        return {**self.__dict__, "_input": None, "_waiting": {}}

    def output(self, member: LowRankExperts, x: Tensor) -> Tensor:
        """Return the member's output for x, computing all members' if x is new."""
        if x is not self._input or member not in self._waiting:
            outputs = self._compute(x)
            self._input = x
            self._waiting = dict(zip(self.members, outputs, strict=True))
        y = self._waiting.pop(member)
        if not self._waiting:
            self._input = None
        return y

    def _compute(self, x: Tensor) -> list[Tensor]:
        members = self.members
        fused = all(_is_plain(member.base) for member in members)
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        flat = x.reshape(-1, x.shape[-1]).to(dtype)
        dropout = drop_probability(self.dropout, x.device) if members[0].training else 0.0
        keep = keep_mask(self._to_be_dropped(flat), dropout) if dropout else None
        frozen = [
            *(_weight(member.base) if fused else None for member in members),
            *(_bias(member.base) if fused else None for member in members),
        ]
        trained = [getattr(member, part) for part in ("down", "up", "router") for member in members]
        fixed = None if self.fixed_gates is None else self.fixed_gates.gates(x.shape[:-1], x.device)
        # The function below is given frozen weights as it shall see them: its backward is not under autocast.
        with torch.autocast(x.device.type, enabled=False):
            *outputs, logits, gates = RoutedLowRank.apply(
                flat,
                keep,
                fixed,
                self.shape,
                self.scale / (1 - dropout),
                self.stacked.tensor(),
                self._minus_infinity(flat),
                *(None if tensor is None else tensor.to(dtype) for tensor in frozen),
                *trained,
            )
        if self.routing is not None:
            # Compiled, torch 2.11 takes gates, which have no gradient, for something that has one.
            used = gates.detach() if fixed is None else fixed
            self.routing.observe(self.index, logits, used, x.shape[:-1])
        shaped = [y.view(*x.shape[:-1], -1) for y in outputs]
        if fused:
            return shaped
        return [y if m.base is None else m.base(x) + y for m, y in zip(members, shaped, strict=True)]

    def _minus_infinity(self, like: Tensor) -> Tensor:
        """Return a scalar that is made once, of the type of the logits; compiled code has it as a constant."""
        if torch.compiler.is_compiling():
            return torch.full((), -math.inf, dtype=like.dtype, device=like.device)
        if self._nothing is None or self._nothing.dtype != like.dtype or self._nothing.device != like.device:
            with torch.inference_mode(False):
                self._nothing = torch.full((), -math.inf, dtype=like.dtype, device=like.device)
        return self._nothing

    def _to_be_dropped(self, flat_TI: Tensor) -> Tensor:
        """Return the input [T, I] or, where each expert drops on its own, one view of it for each [G*E, T, I]."""
        masks = self.shape.num_linears * self.shape.num_experts
        return flat_TI.expand(masks, *flat_TI.shape) if self.dropout_per_expert else flat_TI


def stacks_in(model: nn.Module) -> list[StackedRows]:
    """Return the matrices that hold the A's and routers of a model."""
    fused = dict.fromkeys(module.fused for module in model.modules() if isinstance(module, LowRankExperts))
    return [each.stacked for each in fused if isinstance(each, FusedLinears)]


class LowRankLayer:
    """The experts of one layer: those of equal number in all its linears are left out together.

    Updates `beside` them, which no router chooses, are left out with the whole layer alone.
    """

    def __init__(self, modules: Sequence[LowRankExperts], beside: Sequence[LowRankExperts] = ()) -> None:
        self.modules, self.beside = list(modules), list(beside)

    def numbers(self) -> range:
        """Return the experts that can be left out one by one."""
        return range(self.modules[0].num_experts)

    @contextmanager
    def without(self, expert: int | None) -> Iterator[None]:
        """Leave out one expert, or all; router and gates stay, so that what is lost is the expert's alone."""
        modules = [*self.modules, *(self.beside if expert is None else ())]
        kept = [module.up.detach().clone() for module in modules]
        try:
            with torch.no_grad():
                for module in modules:
                    module.up[slice(None) if expert is None else expert] = 0
            yield
        finally:
            with torch.no_grad():
                for module, up in zip(modules, kept, strict=True):
                    module.up.copy_(up)


def _is_plain(base: nn.Module | None) -> bool:
    return type(base) is nn.Linear or type(base).__name__ == "Conv1D"


def _weight(base: Any) -> Tensor:
    weight = base.weight
    assert isinstance(weight, Tensor)
    return weight if isinstance(base, nn.Linear) else weight.t()


def _bias(base: Any) -> Tensor | None:
    bias: Tensor | None = base.bias
    return bias
