"""Gates that no router learns: controls that separate the worth of routing from that of the experts' parameters.

Dimensions: T tokens, G linears that share an input, E experts.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from molex_cli.layers.routing_statistics import TokenWeights

RANDOM, UNIFORM, FIXED = "random", "uniform", "fixed"
# Odd constants of Steele, Lea and Flood's SplitMix (OOPSLA 2014), as signed integers.
STEP, FIRST, SECOND = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class FixedGates:
    """The gates of some linears: a random `top_k` of each token, an average over all, or always the first `top_k`.

    A token's random experts are a hash of its id, its position among real tokens and the linear's name: the same for
    every seed, in training and evaluation, with any padding, batch or number of processes.
    """

    def __init__(self, kind: str, num_experts: int, names: Sequence[str], *, top_k: int, tokens: TokenWeights) -> None:
        self.kind, self.num_experts, self.top_k = kind, num_experts, min(top_k, num_experts)
        self._tokens = tokens
        tokens.needs_ids |= kind == RANDOM
        digests = [hashlib.sha256(name.encode()).digest()[:8] for name in names]
        self._salts_G = torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests])

    def gates(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Return the gates of tokens of this shape, which sum to 1 over the experts: [T, G, E]."""
        size = (shape.numel(), len(self._salts_G), self.num_experts)
        if self.kind == UNIFORM:
            return torch.full(size, 1 / self.num_experts, device=device)
        gates_TGE = torch.zeros(size, device=device)
        if self.kind == FIXED:
            gates_TGE[..., : self.top_k] = 1 / self.top_k
            return gates_TGE
        identity_T = self._tokens.identity(shape)
        if identity_T is None:  # what a model projects beside its tokens, as relative positions
            identity_T = torch.arange(shape.numel(), device=device)
        experts_E = torch.arange(1, self.num_experts + 1, device=device)
        self._salts_G = self._salts_G.to(device)
        keys_TG = scrambled(identity_T.to(device)[:, None] ^ self._salts_G)
        chosen = scrambled(keys_TG[..., None] + STEP * experts_E).topk(self.top_k, dim=-1).indices
        return gates_TGE.scatter_(-1, chosen, 1 / self.top_k)


class RandomGate(nn.Module):
    """A gate of MoLEx without parameters: every token of a sequence votes for the same random layer.

    Which one is a hash of the ids and positions of the tokens that count, and of the mixing layer; with `per_token`
    each token has its own. Layers: L.
    """

    def __init__(self, layer: int, num_layers: int, tokens: TokenWeights, *, per_token: bool) -> None:
        super().__init__()
        self.layer, self.num_layers, self.per_token = layer, num_layers, per_token
        self._tokens = tokens
        tokens.needs_ids = True

    def forward(self, z: Tensor) -> Tensor:
        """Return random logits from 0 to 1, the same whenever the tokens come again: [B, T, D] to [B, T, L]."""
        shape = z.shape[:2]
        identity_T = self._tokens.identity(shape)
        assert identity_T is not None, "a block's input has the tokens' shape"
        key_BT = scrambled(identity_T.to(z.device)).view(shape)
        if not self.per_token:
            counted_BT = self._tokens.of(shape, z).view(shape) > 0
            key_BT = (key_BT * counted_BT).sum(1, keepdim=True).expand(shape)
        layers_L = torch.arange(1, self.num_layers + 1, device=z.device) + self.num_layers * self.layer
        drawn_BTL = scrambled(key_BT[..., None] + STEP * layers_L)
        return (drawn_BTL >> 40).float() / 2**24 + 0.5

    def flops_per_token(self) -> float:
        """Return 0: what a hash costs is not counted."""
        return 0.0


def scrambled(values: Tensor) -> Tensor:
    """Return 64-bit integers whose every bit depends on every bit of the input (SplitMix64's finaliser)."""
    for shift, factor in ((30, FIRST), (27, SECOND)):
        values = (values ^ _shifted(values, shift)) * factor
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
