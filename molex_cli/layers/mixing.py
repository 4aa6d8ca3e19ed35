"""A transformer block mixed with another block of the same model (MoLEx, arXiv 2503.11144).

    z' = alpha u_t(z) + (1 - alpha) u_j(z),   j chosen by a gate from z

u_t is the block of this layer, the host; u_j another block of the model, the guest: the same module
with the same adapters. Both are whole blocks, residuals and normalisation included.

Dimensions: B sequences, T tokens, D features.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from molex_cli.errors import MethodError
from molex_cli.layers.fixed_gates import RandomGate
from molex_cli.layers.gates import CosineGate, HostWeight, LinearGate
from molex_cli.layers.guest_cache import GuestLayer, guest_layer
from molex_cli.layers.guest_vote import BATCH, TOKEN, ChosenGuests, GuestVote
from molex_cli.runtime import distributed

# Arguments of blocks whose first dimension is never the batch, even where it is as long.
NOT_BY_ROW = ("rel_embeddings",)


class GuestRows(NamedTuple):
    """A guest and the rows that it is computed for."""

    guest: int
    rows: Tensor | None
    """None for every row, so that nothing is copied."""

    def select(self, values: Tensor) -> Tensor:
        """Return these rows of a tensor [B, ...]."""
        return values if self.rows is None else values.index_select(0, self.rows)

    def put(self, values: Tensor, own: Tensor) -> Tensor:
        """Return a tensor [B, ...] with these rows of its own."""
        return own if self.rows is None else values.index_copy(0, self.rows, own)


class Mixture(torch.autograd.Function):
    """own + w (guest - own) of hidden states [B, T, D], with w [B, 1] or [B, T]."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, guest: Tensor, weight: Tensor) -> Tensor:
        """Return the mixture, and keep the difference where w learns."""
        weight, change = weight.unsqueeze(-1).to(own.dtype), guest - own
        ctx.save_for_backward(weight, change if ctx.needs_input_grad[2] else None)
        return torch.addcmul(own, change, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        """Return the gradients of own, guest and w."""
        weight, change = ctx.saved_tensors
        grad_guest = grad * weight
        grad_weight = None
        if change is not None and weight.shape[1] == 1:
            grad_weight = (grad.flatten(1).unsqueeze(1) @ change.flatten(1).unsqueeze(-1)).squeeze(-1)
        elif change is not None:
            grad_weight = (grad * change).sum(-1)
        return grad - grad_guest, grad_guest, grad_weight


class MixedBlock(nn.Module):
    """A host block that mixes its output with a guest's.

    `router_gradient` is how the task loss reaches the gate's probability p of the guest:
    `none` not at all; `gate` scales the guest, z' = u_t + (1 - alpha) p (u_j - u_t), so that the weights
    sum to 1; `straight_through` computes the equation above and gives p the gradient it has under `gate`.
    """

    def __init__(
        self,
        indices: tuple[int, int],
        blocks: Sequence[nn.Module],
        gate: LinearGate | CosineGate | RandomGate,
        host_weight: HostWeight,
        vote: GuestVote,
        *,
        router_gradient: str,
        compute_self: bool = False,
    ) -> None:
        super().__init__()
        self.layer, self.mixing_index = indices
        """Index among all blocks, and among those that mix."""
        self.host = blocks[self.layer]
        self.gate, self.host_weight = gate, host_weight
        self.vote = vote
        self.router_gradient, self.compute_self = router_gradient, compute_self
        self.in_step = False
        """Whether all processes must call the same guests: where blocks are sharded, calling one is a joint act."""
        self._blocks = tuple(blocks)  # a tuple registers nothing: guests are registered as blocks

    def __getattr__(self, name: str) -> Any:
        """Return what the host has: models ask their blocks for attributes of their own."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("host"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the host returns, its hidden state [B, T, D] mixed with the guest's."""
        z = args[0] if args else kwargs["hidden_states"]
        cache = next((value for value in (*args, *kwargs.values()) if isinstance(value, Cache)), None)
        cached = guest_layer(cache, self.layer, self.mixing_index, len(self._blocks)) if cache is not None else None
        output = self.host(*args, **kwargs)
        own = output[0] if isinstance(output, tuple) else output
        choice = self._chosen(z, cached)
        mixed = self._mixed(own, choice, functools.partial(self._guest_output, args, kwargs, cached))
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

    def _chosen(self, z: Tensor, cached: GuestLayer | None) -> ChosenGuests:
        """Return the choice for z, or the one that the prompt made when this cache was empty."""
        if cached is not None and cached.choice is not None:
            return cached.choice
        weight_1 = self.vote.tokens.once(weight_key(self.layer), lambda: self.host_weight.of_guest(z.device))
        with torch.autocast(z.device.type, enabled=False):
            choice = self.vote.choose(self.gate(z), weight_1, self.router_gradient)
        if cached is not None:
            cached.choice = choice
        return choice

    def _mixed(self, own: Tensor, choice: ChosenGuests, output_of: Any) -> Tensor:
        """Return own + w (guest - own) with w the guest's weight, sequences grouped by guest."""
        if self.host_weight.value == 1:  # fixed, since what is learned lies below 1
            return own
        skipped = None if self.compute_self else self.layer
        groups = (
            assumed_rows(self.vote, len(own), skipped, own.device)
            if self.vote.is_assumed
            else guest_rows(choice, len(self._blocks), skipped=skipped, in_step=self.in_step)
        )
        self.vote.has_mixed |= any(group.guest != self.layer for group in groups)
        if not groups:
            return own
        outputs = [output_of(group) for group in groups]
        if self.vote.level == TOKEN or self.in_step:
            guest = _by_token(own, choice, groups, outputs)
        else:
            guest = _by_row(own, groups, outputs)
        return Mixture.apply(own, guest, choice.weight)

    def _guest_output(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], cached: GuestLayer | None, group: GuestRows
    ) -> Tensor:
        """Return what the guest makes of the host's input, for its rows."""
        size = (args[0] if args else kwargs["hidden_states"]).shape[0]

        def own(value: Any) -> Any:
            if isinstance(value, Cache):
                assert cached is not None
                return cached.view(group.guest)
            if isinstance(value, tuple):
                return tuple(own(each) for each in value)
            if group.rows is None or not isinstance(value, Tensor) or value.ndim < 2:
                return value
            if value.shape[0] != size:
                if value.ndim > 2 and value.shape[0] > 1:
                    raise MethodError(
                        f"MoLEx must know the rows of what a block is given, got a tensor of {list(value.shape)} for "
                        f"{size} rows; this model's family cannot be mixed"
                    )
                return value
            return group.select(value)

        chosen = {name: value if name in NOT_BY_ROW else own(value) for name, value in kwargs.items()}
        output = self._blocks[group.guest](*map(own, args), **chosen)
        return output[0] if isinstance(output, tuple) else output


def weight_key(layer: int) -> tuple[str, int]:
    """Return what a layer's 1 - alpha is found by among what is made once in a forward pass."""
    return "guest weight", layer


def guest_weights(host_weights: Mapping[int, HostWeight]) -> dict[Any, Tensor]:
    """Return 1 - alpha [1] by key for the layers that learn it, one that they share computed once for all of them."""
    layers: dict[HostWeight, list[int]] = {}
    for layer, host_weight in host_weights.items():
        if host_weight.logits is not None:
            layers.setdefault(host_weight, []).append(layer)
    return {
        weight_key(layer): weight_1
        for host_weight, those in layers.items()
        for layer, weight_1 in zip(those, _each(host_weight, len(those)), strict=True)
    }


def _each(host_weight: HostWeight, layers: int) -> Sequence[Tensor]:
    """Return 1 - alpha for so many layers, whose gradients are added up at once."""
    assert host_weight.logits is not None
    return host_weight.of_guest(host_weight.logits.device).expand(layers, 1).unbind()


def _by_row(own: Tensor, groups: Sequence[GuestRows], outputs: Sequence[Tensor]) -> Tensor:
    """Return each row's guest, or its own where it has none: [B, T, D]."""
    if groups[0].rows is None:
        return outputs[0]
    rows = [group.rows for group in groups if group.rows is not None]
    return own.index_copy(0, torch.cat(rows), torch.cat(list(outputs)))


def _by_token(own: Tensor, choice: ChosenGuests, groups: Sequence[GuestRows], outputs: Sequence[Tensor]) -> Tensor:
    """Return the same where tokens of a row differ, or rows are computed that only other processes need."""
    guest = own
    for group, output in zip(groups, outputs, strict=True):
        chose = (group.select(choice.guest) == group.guest).unsqueeze(-1)
        guest = group.put(guest, torch.where(chose, output, group.select(guest)))
    return guest


def guest_rows(choice: ChosenGuests, num_layers: int, *, skipped: int | None, in_step: bool) -> list[GuestRows]:
    """Return every chosen guest but the skipped one with its rows; `in_step`, those too that only others chose.

    A guest that only other processes chose gets one row, whose weight is to be zero.
    """
    if choice.only is not None and not in_step:
        return [] if choice.only == skipped else [GuestRows(choice.only, None)]
    if in_step or choice.guest.shape[1] > 1:
        return _rows_by_token(choice, num_layers, skipped, in_step)
    guest_B = choice.guest[:, 0]
    counts = sorted(Counter(guest_B.tolist()).items())  # the one wait for the device
    by_guest = guest_B.argsort(stable=True).split([count for _, count in counts])
    whole = len(counts) == 1
    pairs = zip(counts, by_guest, strict=True)
    return [GuestRows(guest, None if whole else rows) for (guest, _), rows in pairs if guest != skipped]


def _rows_by_token(choice: ChosenGuests, num_layers: int, skipped: int | None, in_step: bool) -> list[GuestRows]:
    """Return the same where a row may have several guests, or processes call them together."""
    layers_L = torch.arange(num_layers, device=choice.guest.device)
    chose_LB = (choice.guest.unsqueeze(-1) == layers_L).any(1).t()
    chosen_L = chose_LB.any(1)
    if in_step:
        chosen_L = distributed.all_reduce(chosen_L.int()) > 0
    wanted = torch.cat([chosen_L[:, None], chose_LB], 1).tolist()  # the one wait for the device
    first_LB = chose_LB.byte().argsort(dim=1, descending=True, stable=True)  # the rows that chose it, in their order
    groups = []
    for guest, (is_chosen, *chose_B) in enumerate(wanted):
        if is_chosen and guest != skipped:
            groups.append(GuestRows(guest, None if all(chose_B) else first_LB[guest, : max(1, sum(chose_B))]))
    return groups


def assumed_rows(vote: GuestVote, count: int, skipped: int | None, device: torch.device) -> list[GuestRows]:
    """Return guests for so many rows as need most memory: each row another guest in turn, or each guest every row."""
    guests = [guest for guest in vote.guests if guest != skipped]
    if vote.level == TOKEN:
        return [GuestRows(guest, None) for guest in guests]
    if vote.level == BATCH or len(guests) == 1 or count == 1:
        return [GuestRows(guests[0], None)]
    rows_B = torch.arange(count, device=device)
    return [GuestRows(guest, rows_B[first :: len(guests)]) for first, guest in enumerate(guests[:count])]
