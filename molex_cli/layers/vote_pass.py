"""The votes of all mixing layers in one forward pass, counted together once the pass is over.

Dimensions: J mixing layers, B sequences, T tokens, E layers that may be guests, M the most of any, U units that choose:
the batch (1), its sequences (B) or its tokens (B*T).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from molex_cli.layers.routing import balance_loss, entropy, full_precision, running_totals, vote_margin
from molex_cli.runtime import distributed


class Layer(Protocol):
    """What is to be known of a mixing layer."""

    guests: list[int]


class VoteSums(NamedTuple):
    """What is counted of votes, summed over the units that chose; stored packed into one tensor [..., E + 3]."""

    usage: Tensor
    """How often each guest was chosen: [..., E]."""
    entropy: Tensor
    """Of the gate over tokens."""
    margin: Tensor
    """Of the vote."""
    units: Tensor

    @classmethod
    def unpacked(cls, packed: Tensor) -> "VoteSums":
        """Return packed sums by name."""
        return cls(packed[..., :-3], *packed[..., -3:].unbind(-1))

    def packed(self) -> Tensor:
        """Return everything in one tensor, in the order of the fields: stored states hold it so."""
        return torch.cat([self.usage, *(each.unsqueeze(-1) for each in self[1:])], -1)


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
    none: Tensor
    """No ballots: [B, E]."""


class Vote(NamedTuple):
    """The vote of one layer, without a graph."""

    logits: Tensor
    """[B, T, E]."""
    ballots: Tensor
    """[U, E]."""
    won: Tensor
    """The guest that was chosen: [U]."""
    weight: Tensor
    """1 - alpha: [1]."""


class Votes:
    """The votes of layers with as many guests, without a graph: what the backward pass keeps refers to it."""

    def __init__(self, voters: Voters) -> None:
        self.voters = voters
        self.layers: list[int] = []
        """The numbers of the layers, in the order of their votes."""
        self._votes: list[Vote] = []
        self._made: dict[str, Tensor] = {}

    def add(self, layer: int, vote: Vote) -> int:
        """Add the vote of a layer and return its place."""
        self.layers.append(layer)
        self._votes.append(vote)
        self._made = {}
        return len(self._votes) - 1

    def _once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        if name not in self._made:
            with torch.no_grad():
                self._made[name] = make()
        return self._made[name]

    def probability(self) -> Tensor:
        """Return the gates' softmax: [J, B, T, E]."""
        return self._once("probability", lambda: torch.stack([vote.logits for vote in self._votes]).softmax(-1))

    def won(self) -> Tensor:
        """Return the guests that were chosen: [J, U]."""
        return self._once("won", lambda: torch.stack([vote.won for vote in self._votes]))

    def chosen(self) -> Tensor:
        """Return how many units chose each guest: [J, E]."""
        return self._once("chosen", self._chosen)

    def slopes(self, place: int) -> Tensor:
        """Return the gradient that a layer's logits have of 1 - alpha times the mean probability of its guest."""
        return self._once("slopes", self._slopes)[place]

    def _chosen(self) -> Tensor:
        weight_U, won_JU = self.voters.weight, self.won()
        none_JE = weight_U.new_zeros(len(won_JU), self._votes[0].logits.shape[-1])
        return none_JE.scatter_add_(1, won_JU, weight_U.expand(won_JU.shape))

    def _slopes(self) -> Tensor:
        probability_JBTE, won_JU = self.probability(), self.won()
        size = probability_JBTE.shape[:-1]
        by_unit = won_JU.view(size) if won_JU[0].numel() == size[1:].numel() else won_JU[:, :, None].expand(size)
        own_JBT = self.voters.own * torch.stack([vote.weight for vote in self._votes])[..., None]
        only_won = torch.zeros_like(probability_JBTE)
        only_won.scatter_(-1, by_unit[..., None], own_JBT.to(only_won.dtype)[..., None])
        return torch._softmax_backward_data(only_won, probability_JBTE, -1, probability_JBTE.dtype)

    @torch.no_grad()
    def sums(self) -> Tensor:
        """Return the packed `VoteSums` of each layer: [J, E + 3]."""
        chosen_JE = self.chosen()
        entropy_J = entropy(self.probability()).flatten(1) @ self.voters.share.flatten() * self.voters.at_least_one
        margin_J = vote_margin(torch.stack([vote.ballots for vote in self._votes])) @ self.voters.weight
        return VoteSums(chosen_JE, entropy_J, margin_J, self.voters.units.expand(margin_J.shape)).packed()


class VotePass:
    """The votes of the last forward pass, and their running totals since these were taken."""

    def __init__(self) -> None:
        self._layers: list[Layer] = []
        self._votes: dict[Any, Votes] = {}
        """By shape, type and device of the logits."""
        self._logits: dict[Any, list[Tensor]] = {}
        """Those that the balance loss trains, with their graph, by the same."""
        self._totals: Tensor | None = None
        """Packed `VoteSums` of every layer: [J, M + 3]."""
        self._in_totals: set[int] = set()
        """Layers with something in the totals."""
        self._places: dict[Any, Tensor] = {}
        """The rows of some layers in the totals, on their device."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last forward pass out of copies: it hangs on the graph of the original."""
        return {**self.__dict__, "_votes": {}, "_logits": {}}

    def join(self, layer: Layer) -> int:
        """Add a layer and return its number."""
        self._layers.append(layer)
        return len(self._layers) - 1

    def clear(self) -> None:
        """Forget the last forward pass."""
        self._votes, self._logits = {}, {}

    def see(self, logits_BTE: Tensor, voters: Voters, *, balanced: bool) -> Votes:
        """Return the votes that those of such logits are to be added to."""
        key = logits_BTE.shape, logits_BTE.dtype, logits_BTE.device
        if balanced:
            self._logits.setdefault(key, []).append(logits_BTE)
        return self._votes.setdefault(key, Votes(voters))

    def count(self) -> None:
        """Add what was seen to the totals, at the end of a pass."""
        for votes in self._votes.values():
            self._in_totals |= set(votes.layers)
            with full_precision(votes.voters.counted):
                sums_JF = votes.sums()
            totals = self._totals_on(sums_JF.device)
            totals.index_add_(0, self._rows(votes.layers, totals.device), self._padded(sums_JF).to(totals.dtype))

    def balances(self, *, split: bool = False) -> Tensor:
        """Return E * sum_i f_i P_i of each layer in the last forward pass, f and P over the units that chose: [J].

        With `split`, all processes have rows of that forward pass, and each returns its part of the sum.
        """
        losses = [self._balances(key, votes, split) for key, votes in self._votes.items()]
        layers = [layer for votes in self._votes.values() for layer in votes.layers]
        if len(losses) == 1 and layers == list(range(len(self._layers))):
            return losses[0]
        none_J = losses[0].new_zeros(len(self._layers))
        return none_J.index_add(0, self._rows(layers, none_J.device), torch.cat(losses))

    def sums(self, layer: int) -> Tensor | None:
        """Return the packed `VoteSums` of a layer since they were last taken, in float64; None for nothing."""
        if layer not in self._in_totals or self._totals is None:
            return None
        total = self._totals[layer].cpu().double()
        return torch.cat([total[: len(self._layers[layer].guests)], total[-3:]])

    def put(self, layer: int, sums: Tensor | None) -> None:
        """Put a layer's sums into the place of those so far; None begins anew."""
        if sums is None:
            self._in_totals.discard(layer)
            if self._totals is not None:
                self._totals[layer] = 0
        else:
            self._in_totals.add(layer)
            totals = self._totals_on(None)
            totals[layer] = self._padded(sums).to(totals)

    def _balances(self, key: Any, votes: Votes, split: bool) -> Tensor:
        voters, chosen_JE, units = votes.voters, votes.chosen(), votes.voters.at_least_one
        logits = self._logits.get(key)
        probability_JBTE = votes.probability() if logits is None else torch.stack(logits).softmax(-1)
        with full_precision(probability_JBTE):
            importance_JE = voters.own.flatten() @ probability_JBTE.flatten(1, 2)
        if split:
            chosen_JE, units = distributed.all_reduce(chosen_JE), distributed.all_reduce(voters.units).clamp(min=1)
        return balance_loss(chosen_JE / units, importance_JE / units)

    def _padded(self, sums: Tensor) -> Tensor:
        """Return packed sums with zeros for the guests that only other layers may have: [..., M + 3]."""
        found = VoteSums.unpacked(sums)
        missing = self._most() - found.usage.shape[-1]
        if not missing:
            return sums
        return found._replace(usage=torch.nn.functional.pad(found.usage, (0, missing))).packed()

    def _most(self) -> int:
        return max(len(layer.guests) for layer in self._layers)

    @torch.inference_mode(False)  # passes outside it use them, too
    def _rows(self, layers: Sequence[int], device: torch.device) -> Tensor:
        key = tuple(layers), device
        if key not in self._places:
            self._places[key] = torch.tensor(layers, device=device)
        return self._places[key]

    def _totals_on(self, device: torch.device | None) -> Tensor:
        """Return the totals, on this device or where they are."""
        self._totals = running_totals(self._totals, (len(self._layers), self._most() + 3), device)
        return self._totals
