"""How one mixing layer picks its guest, and statistics of its picks.

Dimensions: B sequences, T tokens, E layers that may be guests, U units that choose: the batch (1), its
sequences (B) or its tokens (B*T).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from molex_cli.errors import ConfigError
from molex_cli.layers.routing import balance_loss, ballots, entropy, majority, vote_margin
from molex_cli.layers.routing_statistics import TokenWeights
from molex_cli.runtime import distributed

BATCH, SEQUENCE, TOKEN = "batch", "sequence", "token"


@dataclass(frozen=True)
class ChosenGuests:
    """The guest of each sequence [B, 1] or token [B, T], as a layer's index, and the gate's probability of it."""

    guest: Tensor
    probability: Tensor
    only: int | None = None
    """The guest of all rows, where it is known without a look at them."""


class VoteSums(NamedTuple):
    """What is counted of a layer's votes, summed over the units that chose."""

    usage: Tensor
    """How often each guest was chosen: [E]."""
    entropy: Tensor
    """Of the gate over tokens."""
    margin: Tensor
    """Of the vote."""
    units: Tensor

    @classmethod
    def unpacked(cls, packed: Tensor) -> "VoteSums":
        """Return packed sums by name."""
        return cls(packed[:-3], *packed[-3:].unbind())

    def packed(self) -> Tensor:
        """Return everything in one tensor [E + 3] of float64, in the order of the fields: stored states hold it so."""
        return torch.cat([each.double().reshape(-1).cpu() for each in self])


class Voters(NamedTuple):
    """Which tokens vote, in all layers of a forward pass."""

    counted: Tensor
    """1 for a token that does: [B, T]."""
    share: Tensor
    """The same as a share of all: [B, T]."""
    own: Tensor
    """The same as a share of those that choose together: [B, T]."""
    weight: Tensor
    """1 for a unit with a voter: [U]."""
    units: Tensor
    """How many there are."""
    at_least_one: Tensor
    """The same, or 1."""


class GuestVote:
    """The vote of one layer: every counted token votes for its most probable guest, the majority decides.

    `level` says who votes together: a batch, a sequence, or each token for itself. `pinned` overrules the
    vote, for measurements.
    """

    def __init__(
        self, layer: int, guests: Sequence[int], num_layers: int, level: str, tokens: TokenWeights, *, balanced: bool
    ) -> None:
        self.layer, self.guests, self.num_layers, self.level = layer, list(guests), num_layers, level
        self.pinned: int | None = None
        self.is_assumed = False
        """Whether guests are dealt out instead, as where tensors have no content to vote with."""
        self.has_mixed = False
        """Whether the layer ever chose another one."""
        self._tokens, self._balanced = tokens, balanced
        self._last: tuple[Tensor, Tensor, Tensor] | None = None
        """Of the last forward pass: how often each guest was chosen, its summed probability, the units."""
        self._sums: VoteSums | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last forward pass out of copies: it hangs on the graph of the original."""
        return {**self.__dict__, "_last": None}

    def numbers(self) -> Sequence[int]:
        """Refuse: a guest is another layer, not an expert of this one."""
        raise ConfigError("--ablate must be layers for MoLEx, whose guests are layers, got experts")

    @contextmanager
    def without(self, expert: int | None = None) -> Iterator[None]:
        """Let the layer mix with itself instead of a guest."""
        self.pinned = self.layer
        try:
            yield
        finally:
            self.pinned = None

    def choose(self, logits_BTL: Tensor) -> ChosenGuests:
        """Return the guests that the gate's logits choose; the probability carries the gradient."""
        logits_BTE = logits_BTL if len(self.guests) == self.num_layers else logits_BTL[..., self.guests]
        size, width = logits_BTE.shape[:2]
        voters = self._tokens.once(
            (self.level, logits_BTE.shape[:2], logits_BTE.dtype), lambda: self._voters(logits_BTE)
        )
        counted_BT = voters.counted
        probability_BTE = logits_BTE.softmax(-1)
        ballots_UE, mean_UE = self._counted(logits_BTE, probability_BTE, voters)
        won_U = majority(ballots_UE)
        if self.pinned is not None:
            won_U = torch.full_like(won_U, self.guests.index(self.pinned))
        entropy_now = entropy(probability_BTE.detach()).flatten() @ voters.share.flatten()
        self._observe(won_U, ballots_UE, mean_UE, voters, entropy_now)
        probability_U = mean_UE.gather(-1, won_U[:, None])[:, 0]
        guest_U = won_U if len(self.guests) == self.num_layers else won_U.new_tensor(self.guests)[won_U]
        if self.level == BATCH:
            return ChosenGuests(guest_U.expand(size)[:, None], probability_U.expand(size)[:, None], self.pinned)
        if self.level == SEQUENCE:
            return ChosenGuests(guest_U[:, None], probability_U[:, None], self.pinned)
        guest_BT = guest_U.view(size, width)
        return ChosenGuests(torch.where(counted_BT > 0, guest_BT, self.layer), probability_U.view(size, width))

    def _voters(self, logits_BTE: Tensor) -> "Voters":
        """Return who votes; the same for all layers."""
        counted_BT = self._tokens.of(logits_BTE.shape[:2], logits_BTE).view(logits_BTE.shape[:2])
        share_BT = counted_BT / counted_BT.sum().clamp(min=1)
        if self.level == TOKEN:
            own_BT, weight_U = counted_BT, counted_BT.flatten()
        elif self.level == BATCH:
            own_BT, weight_U = share_BT, (counted_BT.sum() > 0).to(counted_BT.dtype)[None]
        else:
            of_row_B1 = counted_BT.sum(1, keepdim=True)
            own_BT, weight_U = counted_BT / of_row_B1.clamp(min=1), (of_row_B1[:, 0] > 0).to(counted_BT.dtype)
        units = weight_U.sum()
        return Voters(counted_BT, share_BT, own_BT, weight_U, units, units.clamp(min=1))

    def _counted(self, logits_BTE: Tensor, probability_BTE: Tensor, voters: "Voters") -> tuple[Tensor, Tensor]:
        """Return ballots [U, E] and mean probability [U, E] of each unit that chooses."""
        if self.level == TOKEN:
            first = torch.nn.functional.one_hot(logits_BTE.argmax(-1), logits_BTE.shape[-1]).flatten(0, 1)
            return first.to(logits_BTE.dtype), probability_BTE.flatten(0, 1)
        ballots_UE = ballots(logits_BTE, voters.counted)
        mean_UE = torch.einsum("bt,bte->be", voters.own, probability_BTE)
        if self.level == BATCH:
            return ballots_UE.sum(0, keepdim=True), mean_UE.sum(0, keepdim=True)
        return ballots_UE, mean_UE

    def _observe(
        self, won_U: Tensor, ballots_UE: Tensor, mean_UE: Tensor, voters: "Voters", entropy_now: Tensor
    ) -> None:
        """Keep the balance loss of this forward pass and add to the sums."""
        weight_U = voters.weight
        chosen_E = weight_U.new_zeros(mean_UE.shape[-1]).scatter_add_(0, won_U, weight_U)
        self._last = chosen_E, weight_U @ (mean_UE if self._balanced else mean_UE.detach()), voters.units
        margin = vote_margin(ballots_UE) @ weight_U
        added = VoteSums(chosen_E, entropy_now * voters.at_least_one, margin, voters.units)
        before = self._sums or VoteSums(*map(torch.zeros_like, added))
        # What was restored from a state is on the CPU.
        self._sums = VoteSums(*(old.to(new.device) + new.detach() for old, new in zip(before, added, strict=True)))

    def last(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return of the last forward pass how often each guest was chosen, its summed probability, and the units."""
        assert self._last is not None, "a layer that mixes has chosen in every forward pass"
        return self._last

    def clear(self) -> None:
        """Forget the last forward pass."""
        self._last = None

    def balance(self, *, split: bool = False) -> Tensor:
        """Return E * sum_i f_i P_i of the last forward pass, f and P over the units that chose."""
        return balances([self], split=split)[0]

    def sums(self) -> Tensor | None:
        """Return the packed `VoteSums` since they were last taken."""
        return self._sums.packed() if self._sums else None

    def restore(self, sums: Tensor) -> None:
        """Resume from such sums."""
        # In the precision that they are added up in, so that a resumed run is equal to the bit.
        self._sums = VoteSums.unpacked(sums.float())

    def take(self) -> dict[str, Any]:
        """Return since the last call: `usage`, the share of each layer of the model as guest; mean
        `entropy` of the gate over tokens, in nats; mean `margin` of the vote.
        """
        sums, self._sums = self.sums(), None
        empty = torch.zeros(len(self.guests) + 3, dtype=torch.float64)
        total = VoteSums.unpacked(distributed.all_reduce(empty if sums is None else sums))
        units = total.units.clamp(min=1)
        usage = torch.zeros(self.num_layers, dtype=torch.float64)
        usage[self.guests] = total.usage / units
        return {
            "usage": usage.tolist(),
            "entropy": float(total.entropy / units),
            "margin": float(total.margin / units),
        }


def balances(votes: Sequence[GuestVote], *, split: bool = False) -> Tensor:
    """Return E * sum_i f_i P_i of each layer in the last forward pass, f and P over the units that chose: [layers]."""
    if len({len(vote.guests) for vote in votes}) > 1:
        return torch.stack([vote.balance(split=split) for vote in votes])
    chosen_JE, importance_JE, units_J = (
        torch.stack(those) for those in zip(*(vote.last() for vote in votes), strict=True)
    )
    if split:
        chosen_JE, units_J = distributed.all_reduce(chosen_JE), distributed.all_reduce(units_J)
    units_J1 = units_J.clamp(min=1)[:, None]
    return balance_loss(chosen_JE / units_J1, importance_JE / units_J1)
