"""MoLEx: each layer mixed with another layer of the same model that a gate picks (arXiv 2503.11144).

    z' = alpha u_t(z) + (1 - alpha) u_j(z),   j = the top-1 layer of a gate on z

What is trained inside the layers is another method's, LoRA unless set otherwise; a guest brings its own
adapters. `molex_paper` reproduces the published code, whose gate the task never trains and whose vote counts
padding and batch mates; docs/methods.md lists every difference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from molex_cli.methods.base import Adapted, Inject, LayerExperts, Method, freeze, method
from molex_cli.methods.bitfit import BitFit
from molex_cli.methods.lora import Update
from molex_cli.methods.low_rank import inject_experts

if TYPE_CHECKING:
    from molex_cli.models.structure import Backbone

MIXING = ("all", "first_half", "published")
INNER = "inner of molex"
GUESTS = ("all", "first_half", "later")


class Inner(Enum):
    """What is trained inside the layers."""

    lora = "lora"
    bitfit = "bitfit"
    none = "none"


class Gate(Enum):
    """How the gate scores layers: W z + b, or the cosine between a projection of z and a vector a layer."""

    linear = "linear"
    cosine = "cosine"


class AlphaForm(Enum):
    """Whether alpha is fixed or learned: as the sigmoid of one number or, as published, the softmax of two."""

    fixed = "fixed"
    sigmoid = "sigmoid"
    softmax = "softmax"


class Level(Enum):
    """Who chooses a guest together: all sequences of a batch, the tokens of a sequence, each token for itself."""

    batch = "batch"
    sequence = "sequence"
    token = "token"


class Voters(Enum):
    """Which tokens of a decoder's rows choose: the prompt's, or all that a forward pass computes."""

    prompt = "prompt"
    all = "all"


class RouterGradient(Enum):
    """How the task loss reaches the gate; the terms are those of `layers/mixing.py`."""

    none = "none"
    gate = "gate"
    straight_through = "straight_through"


class Router(Enum):
    """Who picks a layer's guest: a gate, or the control that learns nothing."""

    learned = "learned"
    random = "random"


@method("molex")
@dataclass(kw_only=True)
class MoLEx(Method):
    """Mix each layer's output with that of a layer that a gate picks."""

    starts_at_base: ClassVar[bool] = False
    yardsticks: ClassVar[tuple[str, ...]] = (INNER,)
    solvable: ClassVar[Mapping[str, str]] = {"rank": "lora.rank"}
    name: str = "molex"
    display_name: str = "MoLEx"
    learning_rate: float = 5e-4
    inner: Inner = Inner.lora
    """What is trained inside the layers."""
    lora: Update = field(default_factory=Update)
    """Settings of inner=lora."""
    layers: Any = "all"
    """Layers that mix: all, first_half, published (all of an encoder, the first half of a decoder), or a list."""
    guests: Any = "all"
    """Layers that may be guests: all, first_half, later (the mixing layer and those above it), or a list."""
    router: Router = Router.learned
    """learned; or random: a hash of the sequence's tokens picks the guest, and no gate is there to learn."""
    gate: Gate = Gate.linear
    gate_dim: int | None = None
    """Projected features of gate=cosine; null takes 96."""
    gate_over_tokens: bool = False
    """Let gate=cosine normalise over the tokens, as published, instead of the features."""
    gate_per_layer: bool = False
    """One gate for each mixing layer instead of one for all."""
    gate_learning_rate: float | None = None
    """Peak learning rate of gates and learned alphas; null takes that of all other parameters."""
    gate_weight_decay: float | None = 0.0
    """Weight decay of gates and learned alphas; null takes train.weight_decay."""
    alpha: float = 0.95
    """Weight of a layer's own output; where it is learned, what it starts at."""
    alpha_form: AlphaForm = AlphaForm.sigmoid
    alpha_per_layer: bool = False
    """Learn one alpha for each mixing layer instead of one for all."""
    level: Level = Level.sequence
    voters: Voters = Voters.prompt
    """Who votes in a decoder: prompt, so that a choice holds while it writes; or all, as published, and no cache."""
    count_padding: bool = False
    """Let padding vote and count in the balance loss."""
    attend_padding: bool = False
    """Let a decoder's padding see itself, as published, which changes how it votes and no token's own prediction."""
    router_gradient: RouterGradient = RouterGradient.straight_through
    compute_self: bool = False
    """Compute a layer that chose itself twice, as published; under dropout the two differ."""
    balance: float = 0.0
    """Coefficient of the balance loss; 0 turns it off. It outweighs the task loss in the gate (docs/methods.md)."""
    balance_sum: bool = False
    """Sum the balance loss over layers instead of averaging it."""
    pad_to: int | None = None
    """Tokens that every batch is padded to; null pads to the longest row."""

    def paper(self) -> str:
        """Return the paper that the method is from."""
        return "Teo and Nguyen 2025, arXiv 2503.11144"

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        yield from (f".lora{problem}" for problem in self.lora.problems())
        yield from _layer_list_problems("layers", self.layers, MIXING)
        yield from _layer_list_problems("guests", self.guests, GUESTS)
        yield from self._alpha_problems()
        yield from self._gate_problems()
        if self.balance < 0:
            yield f".balance must be at least 0, got {self.balance}"
        if self.pad_to is not None and self.pad_to < 1:
            yield f".pad_to must be at least 1, got {self.pad_to}"

    def _alpha_problems(self) -> Iterator[str]:
        if not 0 <= self.alpha <= 1:
            yield f".alpha must be at least 0 and at most 1, got {self.alpha}"
        elif self.alpha_form is not AlphaForm.fixed and self.alpha in (0, 1):
            yield f".alpha must lie between 0 and 1 to be learned, got {self.alpha}; set method.alpha_form=fixed"
        if self.alpha_per_layer and self.alpha_form is AlphaForm.fixed:
            yield ".alpha_per_layer must go with a learned alpha, got alpha_form=fixed; set method.alpha_form=sigmoid"

    def _gate_problems(self) -> Iterator[str]:
        if self.gate_dim is not None and self.gate is not Gate.cosine:
            yield f".gate_dim must go with gate=cosine, got gate={self.gate.name}"
        elif self.gate_dim is not None and self.gate_dim < 1:
            yield f".gate_dim must be at least 1, got {self.gate_dim}"
        if self.gate_learning_rate is not None and self.gate_learning_rate <= 0:
            yield f".gate_learning_rate must be above 0, got {self.gate_learning_rate}"
        if self.gate_weight_decay is not None and self.gate_weight_decay < 0:
            yield f".gate_weight_decay must be at least 0, got {self.gate_weight_decay}"
        if self.gate_over_tokens and (self.gate is not Gate.cosine or self.level is not Level.batch):
            yield (
                ".gate_over_tokens must go with gate=cosine and level=batch, "
                f"got gate={self.gate.name} and level={self.level.name}"
            )

    def layer_problems(self, num_layers: int) -> Iterator[str]:
        """Yield what is wrong with the choice of layers for a model of so many."""
        for name, chosen in (("layers", self.layers), ("guests", self.guests)):
            beyond = [layer for layer in chosen if layer >= num_layers] if not isinstance(chosen, str) else []
            if beyond:
                yield f"method.{name} must be below {num_layers}, the model's layers, got {', '.join(map(str, beyond))}"

    def inject(self, backbone: "Backbone") -> Adapted:
        """Wrap the blocks that mix, after the inner method is in them."""
        from molex_cli.methods.molex.inject import inject

        return inject(self, backbone)

    def experts(self, adapted: Adapted) -> Mapping[int, LayerExperts]:
        """Return the guests of each layer that mixes."""
        votes: Any = adapted.routers
        return votes

    def low_rank(self) -> Update | None:
        """Return the settings of inner=lora."""
        return self.lora if self.inner is Inner.lora else None

    def with_dropout(self, dropout: float) -> Self:
        """Return the same method with this dropout in its adapters."""
        return replace(self, lora=replace(self.lora, dropout=dropout))

    def bench_arms(self) -> dict[str, Inject]:
        """Name the inner method alone, the method itself, and the method with no guest but the layer itself."""
        arms: dict[str, Inject] = {INNER: self.inject_inner, **super().bench_arms()}
        if not self.compute_self:
            arms[f"{self.name} (all choose self)"] = self._inject_pinned
        return arms

    def inject_inner(self, backbone: "Backbone") -> Adapted:
        """Put in what is trained inside the layers, and mix nothing."""
        if self.inner is Inner.lora:
            return inject_experts(self.lora, backbone, experts=[1] * backbone.num_layers, key="method.lora.targets")
        if self.inner is Inner.bitfit:
            return BitFit().inject(backbone)
        return Adapted(backbone=backbone, groups=freeze(backbone))

    def _inject_pinned(self, backbone: "Backbone") -> Adapted:
        """Put in everything, with every choice pinned to the layer itself: the gate and the vote are left."""
        adapted = self.inject(backbone)
        votes: Any = adapted.routers
        for layer, vote in votes.items():
            vote.pinned = layer
        return adapted


def _layer_list_problems(name: str, chosen: Any, words: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with a word for layers or a list of them."""
    if isinstance(chosen, str):
        if chosen not in words:
            yield f".{name} must be {', '.join(words)} or a list of layers, got {chosen}"
    elif not isinstance(chosen, list) or not chosen or not all(type(each) is int and each >= 0 for each in chosen):
        yield f".{name} must be {', '.join(words)} or a list of layers from 0, got {chosen}"
    elif len(set(chosen)) < len(chosen):
        yield f".{name} must name each layer once, got {chosen}"
