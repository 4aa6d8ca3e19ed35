"""What the routers of a model did: sums over real tokens, kept while a forward pass runs."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from molex_cli.errors import MethodError
from molex_cli.layers.routing import RoutingSums, balance_loss, importance_and_load, routing_sums, statistics
from molex_cli.runtime import distributed


class Routing(Protocol):
    """What one layer's routers gave to each expert."""

    def clear(self) -> None:
        """Forget the last forward pass, keeping its sums in the running totals."""

    def balance(self, *, split: bool = False) -> Tensor:
        """Return the balance loss of the last forward pass: 1 when balanced.

        With `split`, all processes have rows of that forward pass, and each returns its part of the sum.
        """

    def take(self) -> dict[str, Any]:
        """Return the statistics since the last call; `usage` is the share of each expert."""

    def sums(self) -> Tensor | None:
        """Return what the statistics are computed from, so far, for a state to keep; None where nothing was counted."""

    def restore(self, sums: Tensor) -> None:
        """Resume from such sums."""


class TokenWeights:
    """Which tokens of the batch being computed count: 1 for a real token, 0 for padding.

    It is open from the start to the end of a model's forward pass only, so that what activation
    checkpointing computes again during the backward pass is not counted twice.
    """

    def __init__(self, count_padding: bool) -> None:
        self.count_padding = count_padding
        self.is_open = False
        self.needs_ids = False
        """Whether a model that is called without token ids cannot be routed."""
        self.silent = False
        """Whether nothing counts: rows that only keep processes in step."""
        self._mask: Tensor | None = None
        self._identity: Tensor | None = None
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

    def identity(self, shape: torch.Size) -> Tensor | None:
        """Return an integer for each token of this shape, of its id and its position among real tokens, flattened."""
        known = self._identity
        return known.flatten() if known is not None and known.shape == shape else None

    def watch(self, model: nn.Module, routings: "Sequence[Routing]") -> None:
        """Open at each forward pass of the model and take the mask from its arguments."""
        self._routings = list(routings)
        # Bound methods, so that a copy of the model has hooks of its own.
        model.register_forward_pre_hook(self.before, with_kwargs=True)
        model.register_forward_hook(self.after, always_call=True)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Open; return the arguments that the model shall get."""
        self._identity = _identity(args, kwargs)
        if self.needs_ids and self._identity is None:
            raise MethodError("method.router=random must see the ids of the tokens, got a model called without them")
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


def _over(modules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of the linears' statistics, and the sum of their dead experts."""
    found: dict[str, Any] = {"dead": sum(each["dead"] for each in modules)}
    for name in ("entropy", "effective", "top1", "logit", "utilisation"):
        known = [each[name] for each in modules if each[name] is not None]
        found[name] = sum(known) / len(known) if known else None
    return found


def _wide(like: Tensor) -> torch.dtype:
    """Return the widest type of the device: sums over millions of tokens lose the last ones in a narrow one."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def _identity(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return 2^32 times the position plus the id of each token [B, T]; None for a model that is not given ids."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    if ids is None or ids.ndim != 2 or ids.is_floating_point():
        return None
    mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
    if mask is not None and mask.ndim == 2:
        position = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    else:
        position = torch.arange(ids.shape[1], device=ids.device) + (cache.get_seq_length() if cache is not None else 0)
    identity: Tensor = ids.long() + (position.long() << 32)
    return identity


class LayerRouting:
    """The routing of one layer: what its routers gave to each expert, for each linear and for all together."""

    def __init__(self, num_experts: int, top_k: int, weights: TokenWeights, *, has_routers: bool = True) -> None:
        self.num_experts, self.top_k = num_experts, top_k
        self.has_routers = has_routers
        """Whether the gates are a router's, so that there are logits and a first choice to speak of."""
        self.modules: list[str] = []
        """Names of the linears, in the order of the sums."""
        self._weights = weights
        self._importance: list[Tensor] = []
        self._load: list[Tensor] = []
        self._last: list[tuple[int, Tensor]] = []
        self._total: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last forward pass out of copies: it hangs on the graph of the original."""
        return {**self.__dict__, "_importance": [], "_load": [], "_last": []}

    def join(self, names: Sequence[str]) -> int:
        """Add linears that are observed together; return the index of the first."""
        self.modules += names
        return len(self.modules) - len(names)

    def observe(self, index: int, probability_TGE: Tensor, gates_TGE: Tensor, shape: torch.Size) -> None:
        """Add the routing of the linears from an index on, for tokens of the given shape."""
        is_counted = self._weights.is_open and not self._weights.silent
        if not is_counted and not torch.is_grad_enabled():
            return
        weights_T = self._weights.of(shape, gates_TGE)
        if torch.is_grad_enabled():  # else there is no loss to balance
            # Activation checkpointing must find the same operations when it computes them again, but counts them once.
            importance, load = importance_and_load(probability_TGE, gates_TGE, weights_T)
            if self._weights.is_open:
                self._importance.append(importance)
                self._load.append(load)
        if is_counted:
            with torch.no_grad():
                self._last.append((index, routing_sums(probability_TGE, gates_TGE, weights_T)))

    def clear(self) -> None:
        """Forget the last forward pass, keeping its sums in the running totals."""
        for index, sums in self._last:
            if self._total is None:
                self._total = sums.new_zeros(len(self.modules), sums.shape[1], dtype=_wide(sums))
            self._total = self._total.to(sums.device)  # one that was restored is on the CPU
            self._total[index : index + len(sums)] += sums
        self._importance, self._load, self._last = [], [], []

    def balance(self, *, split: bool = False) -> Tensor:
        """Return the balance loss of the last forward pass: 1 when balanced, E/k on k experts."""
        importance, load = torch.stack(self._importance).sum(0), torch.stack(self._load).sum(0)
        tokens = importance.detach().sum()
        if split:
            load, tokens = distributed.all_reduce(load), distributed.all_reduce(tokens)
        return balance_loss(load / load.sum().clamp(min=1), importance / tokens.clamp(min=1e-9))

    def take(self) -> dict[str, Any]:
        """Return the `statistics` since the last call: of each linear under `modules`, and of the layer.

        An expert of one linear is another than that of the same number in the next, so a layer's statistics are means
        over its linears, and `dead` their sum; only `usage` and `gate` add up equal numbers, as the balance loss does.
        """
        sums = self.sums()
        self._total = None
        empty = torch.zeros(len(self.modules), RoutingSums.width(self.num_experts), dtype=torch.float64)
        total = distributed.all_reduce(empty if sums is None else sums)
        each = {name: self._statistics(total[i : i + 1]) for i, name in enumerate(self.modules)}
        return {**self._statistics(total), **_over(list(each.values())), "modules": each}

    def _statistics(self, sums_GF: Tensor) -> dict[str, Any]:
        found = statistics(sums_GF, self.top_k)
        return found if self.has_routers else found | dict.fromkeys(("entropy", "top1", "logit"))

    def sums(self) -> Tensor | None:
        """Return the packed `RoutingSums` of each linear since they were last taken."""
        self.clear()
        return None if self._total is None else self._total.cpu()

    def restore(self, sums: Tensor) -> None:
        """Resume from such sums."""
        self._total = sums
