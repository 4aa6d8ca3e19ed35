"""What the routers of a model did: sums over real tokens, kept while a forward pass runs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from molex_cli.errors import MethodError
from molex_cli.layers.routing import RoutingSums, statistics
from molex_cli.layers.routing_pass import RoutingPass, Seen
from molex_cli.layers.vote_pass import VotePass
from molex_cli.runtime import distributed

T = TypeVar("T")


class Routing(Protocol):
    """What one layer's routers gave to each expert."""

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


class Given(NamedTuple):
    """The tokens that a model was called with."""

    ids: Tensor
    """[B, T]."""
    mask: Tensor | None
    """[B, past and T]."""
    past: int
    """How many tokens are in the cache."""

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Given | None":
        """Return what stands among the arguments; None for a model that is not given ids."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None or ids.ndim != 2 or ids.is_floating_point():
            return None
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        has_mask = mask is not None and mask.ndim == 2
        return cls(ids, mask if has_mask else None, cache.get_seq_length() if cache is not None else 0)

    def identity(self) -> Tensor:
        """Return 2^32 times the position plus the id of each token: [B, T]."""
        width = self.ids.shape[1]
        if self.mask is not None:
            position = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -width:]
        else:
            position = torch.arange(width, device=self.ids.device) + self.past
        return self.ids.long() + (position.long() << 32)


class TokenWeights:
    """Which tokens of the batch being computed count: 1 for a real token, 0 for padding.

    It is open from the start to the end of a model's forward pass only, so that what activation
    checkpointing computes again during the backward pass is not counted twice.
    """

    def __init__(self, count_padding: bool) -> None:
        self.count_padding = count_padding
        self.attend_padding = False
        """Whether padding is seen as tokens are."""
        self.is_open = False
        self.needs_ids = False
        """Whether a model that is called without token ids cannot be routed."""
        self.silent = False
        """Whether nothing counts: rows that only keep processes in step."""
        self.routed = RoutingPass(self.of)
        """What the routers of the model's layers did."""
        self.voted = VotePass()
        """How the mixing layers of the model voted."""
        self.prepared: list[Callable[[], dict[Any, Any]]] = []
        """Called before a pass, they make by key what layers share: what is made inside a layer with activation
        checkpointing has another graph when the layer is computed again."""
        self._mask: Tensor | None = None
        self._made: dict[Any, Any] = {}
        self._given: Given | None = None
        self._identity: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave what a forward pass made out of copies: it hangs on the graph of the original."""
        return {**self.__dict__, "_made": {}}

    def of(self, shape: torch.Size, like: Tensor) -> Tensor:
        """Return the weights of tokens of this shape, flattened; zeros for tensors that are no tokens."""
        return self.once((shape, like.dtype, like.device), lambda: self._of(shape, like))

    def once(self, key: Any, made: Callable[[], T]) -> T:
        """Return what is the same in all of a forward pass, made at the first call with this key."""
        if key not in self._made:
            self._made[key] = made()
        found: T = self._made[key]
        return found

    def _of(self, shape: torch.Size, like: Tensor) -> Tensor:
        if self.silent or not self.are_tokens(shape):
            return like.new_zeros(shape.numel())
        if self._mask is None:
            return like.new_ones(shape.numel())
        return self._mask[:, -shape[1] :].reshape(-1).to(like.dtype)

    def are_tokens(self, shape: torch.Size) -> bool:
        """Return whether a tensor of this shape has a feature vector for each token of the batch."""
        mask = self._mask
        if mask is None:
            return True
        return mask.ndim == 2 and len(shape) == 2 and mask.shape[0] == shape[0] and mask.shape[1] >= shape[1]

    def identity(self, shape: torch.Size) -> Tensor | None:
        """Return an integer for each token of this shape, of its id and its position among real tokens, flattened."""
        if self._identity is None and self._given is not None:
            self._identity = self._given.identity()
        known = self._identity
        return known.flatten() if known is not None and known.shape == shape else None

    def watch(self, model: nn.Module) -> None:
        """Open at each forward pass of the model and take the mask from its arguments."""
        # Bound methods, so that a copy of the model has hooks of its own.
        model.register_forward_pre_hook(self.before, with_kwargs=True)
        model.register_forward_hook(self.after, always_call=True)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Open; return the arguments that the model shall get."""
        self._given, self._identity = Given.of(args, kwargs), None
        if self.needs_ids and self._given is None:
            raise MethodError("method.router=random must see the ids of the tokens, got a model called without them")
        kwargs = self.read(args, kwargs)
        self._made = {key: made for prepare in self.prepared for key, made in prepare().items()}
        self.is_open = True
        self._forget()
        return args, kwargs

    def after(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Close and count; the mask stays for what is computed again."""
        self.is_open = False
        if output is None:  # the forward pass failed, and its memory may be needed for another try
            self._forget()
            return
        self.routed.end()
        if not self.silent:
            self.routed.count()
            self.voted.count()

    def _forget(self) -> None:
        """Forget what routers and votes did in the last forward pass."""
        self.routed.clear()
        self.voted.clear()

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


class LayerRouting:
    """The routing of one layer: what its routers gave to each expert, for each linear and for all together."""

    def __init__(self, num_experts: int, top_k: int, weights: TokenWeights, *, has_routers: bool = True) -> None:
        self.num_experts, self.top_k = num_experts, top_k
        self.has_routers = has_routers
        """Whether the gates are a router's, so that there are logits and a first choice to speak of."""
        self.modules: list[str] = []
        """Names of the linears, in the order of the sums."""
        self._weights = weights
        self._number = weights.routed.join(self)

    def join(self, names: Sequence[str]) -> int:
        """Add linears that are observed together; return the index of the first."""
        self.modules += names
        return len(self.modules) - len(names)

    def observe(self, index: int, logits_TGE: Tensor | None, gates_TGE: Tensor | None, shape: torch.Size) -> None:
        """Add the routing of the linears from an index on, for tokens of the given shape; without logits a control's.

        What activation checkpointing computes again is not counted again.
        """
        weights = self._weights
        if gates_TGE is None or not weights.is_open or not weights.are_tokens(shape):
            return
        if logits_TGE is not None and not torch.is_grad_enabled():
            logits_TGE = logits_TGE.clone()  # a view, whose base nothing else needs
        seen = Seen(self._number, index, logits_TGE, gates_TGE)
        weights.routed.see(seen, shape)

    def balance(self, *, split: bool = False) -> Tensor:
        """Return the balance loss of the last forward pass: 1 when balanced, E/k on k experts."""
        return self._weights.routed.balances(split=split)[self._number]

    def take(self) -> dict[str, Any]:
        """Return the `statistics` since the last call: of each linear under `modules`, and of the layer.

        An expert of one linear is another than that of the same number in the next, so a layer's statistics are means
        over its linears, and `dead` their sum; only `usage` and `gate` add up equal numbers, as the balance loss does.
        """
        sums = self.sums()
        self._weights.routed.put(self._number, None)
        empty = torch.zeros(len(self.modules), RoutingSums.width(self.num_experts), dtype=torch.float64)
        total = distributed.all_reduce(empty if sums is None else sums)
        each = {name: self._statistics(total[i : i + 1]) for i, name in enumerate(self.modules)}
        return {**self._statistics(total), **_over(list(each.values())), "modules": each}

    def _statistics(self, sums_GF: Tensor) -> dict[str, Any]:
        found = statistics(sums_GF, self.top_k)
        return found if self.has_routers else found | dict.fromkeys(("entropy", "top1", "logit"))

    def sums(self) -> Tensor | None:
        """Return the packed `RoutingSums` of each linear since they were last taken."""
        return self._weights.routed.sums(self._number)

    def restore(self, sums: Tensor) -> None:
        """Resume from such sums."""
        self._weights.routed.put(self._number, sums)
