"""How one mixing layer picks its guest, and statistics of its picks.

Dimensions: B sequences, T tokens, E layers that may be guests, U units that choose: the batch (1), its
sequences (B) or its tokens (B*T).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from molex_cli.errors import ConfigError
from molex_cli.layers.routing import ballots, majority
from molex_cli.layers.routing_statistics import TokenWeights
from molex_cli.layers.vote_pass import Vote, Voters, Votes, VoteSums
from molex_cli.runtime import distributed

BATCH, SEQUENCE, TOKEN = "batch", "sequence", "token"
NONE, GATE, STRAIGHT_THROUGH = "none", "gate", "straight_through"


@dataclass(frozen=True)
class ChosenGuests:
    """The guest of each sequence [B, 1] or token [B, T], as a layer's index, and its weight."""

    guest: Tensor
    weight: Tensor
    only: int | None = None
    """The guest of all rows, where it is known without a look at them."""


class StraightThrough(torch.autograd.Function):
    """The guest's weight w of each unit: [1] to [U]; the mean probability p of the guest gets the gradient of w p."""

    @staticmethod
    def forward(ctx: Any, weight_1: Tensor, logits_BTE: Tensor, votes: Votes, place: int) -> Tensor:
        """Return w for each unit."""
        ctx.votes, ctx.place = votes, place
        return weight_1.expand(len(votes.voters.weight))

    @staticmethod
    def backward(ctx: Any, grad_U: Tensor) -> tuple:
        """Return the gradients of w and of the gate's logits."""
        grad_weight = grad_U.sum(0, keepdim=True) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_weight, None, None, None
        slopes_BTE = ctx.votes.slopes(ctx.place)
        by_unit = (-1, slopes_BTE.shape[1], 1) if grad_U.numel() > len(slopes_BTE) else (-1, 1, 1)
        return grad_weight, slopes_BTE * grad_U.view(by_unit), None, None


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
        self.tokens, self._balanced = tokens, balanced
        self._guests: Tensor | None = None
        self._number = tokens.voted.join(self)

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

    def choose(self, logits_BTL: Tensor, weight_1: Tensor, router_gradient: str) -> ChosenGuests:
        """Return the guests that the gate's logits choose, with their weight, whose factor 1 - alpha is given."""
        allowed_E = self._allowed(logits_BTL.device)
        logits_BTE = logits_BTL if allowed_E is None else logits_BTL.index_select(-1, allowed_E)
        size, width = logits_BTE.shape[:2]
        key = self.level, logits_BTE.shape, logits_BTE.dtype, logits_BTE.device
        voters = self.tokens.once(key, lambda: self._voters(logits_BTE))
        ballots_UE = self._ballots(logits_BTE, voters)
        won_U = self._won(ballots_UE)
        votes = self._seen(logits_BTE, voters)
        place = votes.add(self._number, Vote(logits_BTE.detach(), ballots_UE, won_U, weight_1.detach()))
        if router_gradient == STRAIGHT_THROUGH:
            weight_U = StraightThrough.apply(weight_1, logits_BTE, votes, place)
        elif router_gradient == GATE:
            weight_U = weight_1 * self._mean_probability(logits_BTE, voters, won_U)
        else:
            weight_U = weight_1.expand(won_U.shape)
        guest_U = self._layer(won_U, allowed_E)
        if self.level == BATCH:
            return ChosenGuests(guest_U.expand(size)[:, None], weight_U.expand(size)[:, None], self.pinned)
        if self.level == SEQUENCE:
            return ChosenGuests(guest_U[:, None], weight_U[:, None], self.pinned)
        guest_BT = guest_U.view(size, width)
        return ChosenGuests(torch.where(voters.counted > 0, guest_BT, self.layer), weight_U.view(size, width))

    @torch.inference_mode(False)  # passes outside it use it, too
    def _allowed(self, device: torch.device) -> Tensor | None:
        """Return the guests on a device, made once; None where every layer may be one."""
        if len(self.guests) == self.num_layers:
            return None
        if self._guests is None or self._guests.device != device:
            self._guests = torch.tensor(self.guests, device=device)
        return self._guests

    def _seen(self, logits_BTE: Tensor, voters: Voters) -> Votes:
        """Return where the vote belongs: to those of the pass, or to none where a layer is computed again or alone."""
        if not self.tokens.is_open:
            return Votes(voters)
        return self.tokens.voted.see(logits_BTE, voters, balanced=self._balanced)

    def _voters(self, logits_BTE: Tensor) -> Voters:
        """Return who votes; the same for all layers."""
        counted_BT = self.tokens.of(logits_BTE.shape[:2], logits_BTE).view(logits_BTE.shape[:2])
        share_BT = counted_BT / counted_BT.sum().clamp(min=1)
        if self.level == TOKEN:
            own_BT, weight_U = counted_BT, counted_BT.flatten()
        elif self.level == BATCH:
            own_BT, weight_U = share_BT, counted_BT.sum().clamp(max=1)[None]
        else:
            of_row_B1 = counted_BT.sum(1, keepdim=True)
            own_BT, weight_U = counted_BT / of_row_B1.clamp(min=1), of_row_B1[:, 0].clamp(max=1)
        units = weight_U.sum()
        none_BE = counted_BT.new_zeros(len(counted_BT), logits_BTE.shape[-1])
        return Voters(counted_BT, share_BT, own_BT, weight_U, units, units.clamp(min=1), none_BE)

    def _ballots(self, logits_BTE: Tensor, voters: Voters) -> Tensor:
        """Return the ballots of each unit that chooses: [U, E]."""
        if self.level == TOKEN:
            first = torch.nn.functional.one_hot(logits_BTE.argmax(-1), logits_BTE.shape[-1])
            return first.flatten(0, 1).to(logits_BTE.dtype)
        ballots_BE = ballots(logits_BTE, voters.counted, voters.none)
        return ballots_BE.sum(0, keepdim=True) if self.level == BATCH else ballots_BE

    def _won(self, ballots_UE: Tensor) -> Tensor:
        """Return the place of each unit's guest among those allowed: [U]."""
        won_U = majority(ballots_UE)
        if self.pinned is None or self.pinned not in self.guests:
            return won_U
        won = self.guests.index(self.pinned)
        return self.tokens.once((won_U.shape, won_U.device, won), lambda: torch.full_like(won_U, won))

    def _layer(self, won_U: Tensor, allowed_E: Tensor | None) -> Tensor:
        """Return the layer of each unit's guest: [U]; a pinned one need not be among those allowed."""
        if self.pinned is not None and self.pinned not in self.guests:
            return torch.full_like(won_U, self.pinned)
        return won_U if allowed_E is None else allowed_E[won_U]

    def _mean_probability(self, logits_BTE: Tensor, voters: Voters, won_U: Tensor) -> Tensor:
        """Return the mean probability of the chosen guest, with its gradient: [U]."""
        probability_BTE = logits_BTE.softmax(-1)
        if self.level == TOKEN:
            mean_UE = probability_BTE.flatten(0, 1)
        else:
            mean_UE = torch.einsum("bt,bte->be", voters.own, probability_BTE)
            mean_UE = mean_UE.sum(0, keepdim=True) if self.level == BATCH else mean_UE
        return mean_UE.gather(-1, won_U[:, None])[:, 0]

    def balance(self, *, split: bool = False) -> Tensor:
        """Return E * sum_i f_i P_i of the last forward pass, f and P over the units that chose."""
        return self.tokens.voted.balances(split=split)[self._number]

    def sums(self) -> Tensor | None:
        """Return the packed `VoteSums` since they were last taken."""
        return self.tokens.voted.sums(self._number)

    def restore(self, sums: Tensor) -> None:
        """Resume from such sums."""
        self.tokens.voted.put(self._number, sums)

    def take(self) -> dict[str, Any]:
        """Return since the last call: `usage`, the share of each layer of the model as guest; mean
        `entropy` of the gate over tokens, in nats; mean `margin` of the vote.
        """
        sums = self.sums()
        self.tokens.voted.put(self._number, None)
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
