"""What the routers of a model did: sums over real tokens, kept while a forward pass runs."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from molex_cli import processes
from molex_cli.routing import balance_loss, importance_and_load


class Routing(Protocol):
    """What one layer's routers gave to each expert."""

    def clear(self) -> None:
        """Forget the last forward pass, keeping its sums in the running totals."""

    def balance(self, *, split: bool = False) -> Tensor:
        """Return the balance loss of the last forward pass: 1 when balanced.

        With `split`, all processes have rows of that forward pass, and each returns its part of the sum.
        """

    def take(self) -> dict[str, Any]:
        """Return the figures since this was last asked; `usage` is the share of each expert."""


class TokenWeights:
    """Which tokens of the batch being computed count: 1 for a real token, 0 for padding.

    It is open from the start to the end of a model's forward pass only, so that what activation
    checkpointing computes again during the backward pass is not counted twice.
    """

    def __init__(self, count_padding: bool) -> None:
        self.count_padding = count_padding
        self.is_open = False
        self.silent = False
        """Whether nothing counts: rows that only keep processes in step."""
        self._mask: Tensor | None = None
        self._routings: list[Routing] = []

    def of(self, shape: torch.Size, like: Tensor) -> Tensor:
        """Return the weights of tokens of this shape, flattened; zeros for tensors that are no tokens."""
        mask = self._mask
        if self.silent:
            return like.new_zeros(shape.numel())
        if mask is None:
            return like.new_ones(shape.numel())
        if mask.ndim != 2 or len(shape) != 2 or mask.shape[0] != shape[0] or mask.shape[1] < shape[1]:
            return like.new_zeros(shape.numel())
        return mask[:, -shape[1] :].reshape(-1).to(like.dtype)

    def watch(self, model: nn.Module, routings: "Sequence[Routing]") -> None:
        """Open at each forward pass of the model and take the mask from its arguments."""
        self._routings = list(routings)
        # Bound methods, so that a copy of the model has hooks of its own.
        model.register_forward_pre_hook(self.before, with_kwargs=True)
        model.register_forward_hook(self.after, always_call=True)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Open; return the arguments that the model shall get."""
        kwargs = self.read(args, kwargs)
        self.is_open = True
        for routing in self._routings:
            routing.clear()
        return args, kwargs

    def after(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Close; the mask stays for what is computed again."""
        self.is_open = False

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take the mask from the model's arguments and return the keyword arguments that the model shall get."""
        self._mask = None if self.count_padding else kwargs.get("attention_mask")
        return kwargs


class LayerRouting:
    """The routing of one layer: what its routers, all linears together, gave to each expert."""

    def __init__(self, num_experts: int, weights: TokenWeights) -> None:
        self.num_experts = num_experts
        self._weights = weights
        self._importance: list[Tensor] = []
        self._load: list[Tensor] = []
        self._total: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last forward pass out of copies: it hangs on the graph of the original."""
        return {**self.__dict__, "_importance": [], "_load": []}

    def observe(self, probability_TGE: Tensor, gates_TGE: Tensor, shape: torch.Size) -> None:
        """Add the routing of some linears for tokens of the given shape."""
        # Activation checkpointing must find the same operations when it computes them again, but counts them once.
        importance, load = importance_and_load(probability_TGE, gates_TGE, self._weights.of(shape, gates_TGE))
        if self._weights.is_open:
            self._importance.append(importance)
            self._load.append(load)

    def clear(self) -> None:
        """Forget the last forward pass, keeping its load in the running total."""
        if self._load:
            load = torch.stack(self._load).sum(0)
            self._total = load if self._total is None else self._total + load
        self._importance, self._load = [], []

    def balance(self, *, split: bool = False) -> Tensor:
        """Return the balance loss of the last forward pass: 1 when balanced, E/k on k experts."""
        importance, load = torch.stack(self._importance).sum(0), torch.stack(self._load).sum(0)
        tokens = importance.detach().sum()
        if split:
            load, tokens = processes.summed(load), processes.summed(tokens)
        return balance_loss(load / load.sum().clamp(min=1), importance / tokens.clamp(min=1e-9))

    def take(self) -> dict[str, Any]:
        """Return `usage`, the share of the routing of each expert, since this was last asked."""
        self.clear()
        total, self._total = self._total, None
        total = processes.summed(torch.zeros(self.num_experts) if total is None else total.cpu())
        if not total.any():
            return {"usage": [0.0] * self.num_experts}
        return {"usage": (total / total.sum().clamp(min=1)).tolist()}
