"""MoLEx: each layer mixed with another layer of the same model that a gate picks (arXiv 2503.11144).

    z' = alpha u_t(z) + (1 - alpha) u_j(z),   j = the top-1 layer of a gate on z

What is trained inside the layers is another method's, LoRA unless set otherwise; a guest brings its own
adapters. `molex_paper` reproduces the published code, whose gate the task never trains and whose vote counts
padding and batch mates; docs/methods.md lists every difference.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from molex_cli.errors import ConfigError, MethodError
from molex_cli.methods.base import Adapted, Group, Method, freeze, method
from molex_cli.methods.bitfit import BitFit
from molex_cli.methods.lora import Update, inject_experts

if TYPE_CHECKING:
    from torch import nn

    from molex_cli.backbones.structure import Backbone
    from molex_cli.layers.gates import CosineGate, HostWeight, LinearGate

MIXING = ("all", "first_half", "published")
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


class Level(Enum):
    """Who chooses a guest together: all sequences of a batch, the tokens of a sequence, each token for itself."""

    batch = "batch"
    sequence = "sequence"
    token = "token"


class RouterGradient(Enum):
    """How the task loss reaches the gate; the terms are those of `layers/mixing.py`."""

    none = "none"
    gate = "gate"
    straight_through = "straight_through"


@method("molex")
@dataclass(kw_only=True)
class MoLEx(Method):
    """Mix each layer's output with that of a layer that a gate picks."""

    starts_at_base: ClassVar[bool] = False
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
    gate: Gate = Gate.linear
    gate_dim: int = 96
    """Projected features of gate=cosine."""
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
    alpha_learned: bool = True
    alpha_per_layer: bool = False
    alpha_softmax: bool = False
    """Learn two numbers under a softmax, as published, instead of one under a sigmoid."""
    level: Level = Level.sequence
    count_padding: bool = False
    """Let padding vote and count in the balance loss."""
    router_gradient: RouterGradient = RouterGradient.straight_through
    compute_self: bool = False
    """Compute a layer that chose itself twice, as published; under dropout the two differ."""
    balance: float = 0.0
    """Coefficient of the balance loss; 0 turns it off. It drowns what the task tells the gate (docs/methods.md)."""
    balance_sum: bool = False
    """Sum the balance loss over layers instead of averaging it."""
    pad_to: int | None = None
    """Tokens that every batch is padded to; null pads to the longest row."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        yield from (f".lora{problem}" for problem in self.lora.problems())
        yield from _layer_list_problems("layers", self.layers, MIXING)
        yield from _layer_list_problems("guests", self.guests, GUESTS)
        if not 0 <= self.alpha <= 1:
            yield f".alpha must be at least 0 and at most 1, got {self.alpha}"
        elif self.alpha_learned and self.alpha in (0, 1):
            yield f".alpha must lie between 0 and 1 to be learned, got {self.alpha}; set method.alpha_learned=false"
        if self.gate_dim < 1:
            yield f".gate_dim must be at least 1, got {self.gate_dim}"
        if self.gate_learning_rate is not None and self.gate_learning_rate <= 0:
            yield f".gate_learning_rate must be above 0, got {self.gate_learning_rate}"
        for name in ("gate_weight_decay", "balance"):
            if (getattr(self, name) or 0) < 0:
                yield f".{name} must be at least 0, got {getattr(self, name)}"
        if self.gate_over_tokens and (self.gate is not Gate.cosine or self.level is not Level.batch):
            yield (
                ".gate_over_tokens must go with gate=cosine and level=batch, "
                f"got gate={self.gate.name} and level={self.level.name}"
            )
        if self.pad_to is not None and self.pad_to < 1:
            yield f".pad_to must be at least 1, got {self.pad_to}"

    def layer_problems(self, num_layers: int) -> Iterator[str]:
        """Yield what is wrong with the choice of layers for a model of so many."""
        for name, chosen in (("layers", self.layers), ("guests", self.guests)):
            beyond = [layer for layer in chosen if layer >= num_layers] if not isinstance(chosen, str) else []
            if beyond:
                yield f"method.{name} must be below {num_layers}, the model's layers, got {', '.join(map(str, beyond))}"

    def inject(self, backbone: "Backbone") -> Adapted:
        """Wrap the blocks that mix, after the inner method is in them."""
        from molex_cli.layers.choices import GuestChoice
        from molex_cli.layers.mixing import MixedBlock
        from molex_cli.layers.telemetry import PromptTokens

        self._require_fit(backbone)
        num_layers, blocks = backbone.num_layers, list(backbone.blocks)
        adapted = self.inject_inner(backbone)
        guests = {layer: self._guests(layer, num_layers) for layer in self._mixing(backbone)}
        guests = {layer: allowed for layer, allowed in guests.items() if allowed != [layer]}
        if not guests:
            raise MethodError(
                f"method.guests must leave some mixing layer a guest other than itself, got {self.guests} "
                f"with method.layers={self.layers} on {backbone.name}"
            )
        tokens = PromptTokens(backbone.model, count_padding=self.count_padding, is_decoder=backbone.is_decoder)
        parts = self._parts(backbone, list(guests))
        for place, (layer, allowed) in enumerate(guests.items()):
            choice = GuestChoice(layer, allowed, num_layers, self.level.name, tokens)
            gate, host_weight = parts[layer]
            backbone.blocks[layer] = MixedBlock(
                (layer, place),
                blocks,
                gate,
                host_weight,
                choice,
                router_gradient=self.router_gradient.name,
                compute_self=self.compute_self,
            )
            adapted.routers[layer] = choice
        tokens.watch(backbone.model, list(adapted.routers.values()))
        self._complete(adapted, parts)
        return adapted

    def _require_fit(self, backbone: "Backbone") -> None:
        """Refuse a model whose layers cannot stand in for each other."""
        if problems := list(self.layer_problems(backbone.num_layers)):
            raise ConfigError(problems)
        if self.level is Level.token and backbone.is_decoder:
            raise MethodError(
                f"method.level must be sequence or batch for a decoder, got token on {backbone.name}: a guest that a "
                "new token chooses has no keys and values of the tokens before it"
            )
        kinds = set(getattr(backbone.model.config, "layer_types", None) or ())
        shapes = {tuple((name, p.shape) for name, p in block.named_parameters()) for block in backbone.blocks}
        if len(kinds) > 1 or len(shapes) > 1:
            named = ", ".join(sorted(kinds)) if len(kinds) > 1 else "different sizes"
            raise MethodError(f"method={self.name} must have layers of one kind, got {named} in {backbone.name}")

    def inject_inner(self, backbone: "Backbone") -> Adapted:
        """Put in what is trained inside the layers, and mix nothing."""
        if self.inner is Inner.lora:
            return inject_experts(self.lora, backbone, experts=[1] * backbone.num_layers, key="method.lora.targets")
        if self.inner is Inner.bitfit:
            return BitFit().inject(backbone)
        return Adapted(backbone=backbone, groups=freeze(backbone))

    def _mixing(self, backbone: "Backbone") -> list[int]:
        if not isinstance(self.layers, str):
            return sorted(self.layers)
        whole = self.layers == "all" or (self.layers == "published" and not backbone.is_decoder)
        return list(range(backbone.num_layers if whole else max(1, backbone.num_layers // 2)))

    def _guests(self, layer: int, num_layers: int) -> list[int]:
        if not isinstance(self.guests, str):
            return sorted(self.guests)
        first, end = layer if self.guests == "later" else 0, num_layers
        return list(range(first, max(1, num_layers // 2) if self.guests == "first_half" else end))

    def _parts(
        self, backbone: "Backbone", layers: list[int]
    ) -> "dict[int, tuple[LinearGate | CosineGate, HostWeight]]":
        """Return gate and alpha of each mixing layer, shared or its own."""
        from molex_cli.layers.gates import CosineGate, HostWeight, LinearGate

        width, num_layers = backbone.model.config.hidden_size, backbone.num_layers
        device = next(backbone.blocks.parameters()).device

        def gate() -> "LinearGate | CosineGate":
            if self.gate is Gate.linear:
                return LinearGate(width, num_layers, device)
            return CosineGate(width, num_layers, device, projected=self.gate_dim, over_tokens=self.gate_over_tokens)

        def host_weight() -> "HostWeight":
            return HostWeight(self.alpha, device, learned=self.alpha_learned, softmax=self.alpha_softmax)

        shared = gate(), host_weight()
        return {
            layer: (
                gate() if self.gate_per_layer and layer != layers[0] else shared[0],
                host_weight() if self.alpha_per_layer and layer != layers[0] else shared[1],
            )
            for layer in layers
        }

    def _complete(self, adapted: Adapted, parts: "dict[int, tuple[LinearGate | CosineGate, HostWeight]]") -> None:
        """Add the groups of gates and alphas, the balance loss, the cost and what is known of gradients."""
        names = {id(p): name for name, p in adapted.model.named_parameters()}

        def named(modules: "Iterable[nn.Module]") -> "dict[str, nn.Parameter]":
            return {names[id(p)]: p for module in modules for p in module.parameters()}

        for group in adapted.groups:  # wrapping has renamed what lies in the hosts
            group.parameters = {names[id(p)]: p for p in group.parameters.values()}
        gates, alphas = named(gate for gate, _ in parts.values()), named(weight for _, weight in parts.values())
        own: dict[str, Any] = {"learning_rate": self.gate_learning_rate, "weight_decay": self.gate_weight_decay}
        groups = [Group(name="gates", parameters=gates, **own), Group(name="alphas", parameters=alphas, **own)]
        adapted.groups[-1:-1] = [group for group in groups if group.parameters]
        adapted.balance, adapted.balance_sum, adapted.pad_to = self.balance, self.balance_sum, self.pad_to
        adapted.unused = self._unused(list(gates), list(alphas))
        if self.level is Level.batch:
            adapted.batch_dependent = "the sequences of a batch choose one guest together"
        inner_flops, num_layers = adapted.added_flops, adapted.backbone.num_layers

        def added_flops(base: float, active: bool) -> float:
            inner = inner_flops(base, active)
            every = self.level is Level.token and not active
            passes = sum(len(self._guests(layer, num_layers)) if every else 1 for layer in parts)
            guests = 0 if self.alpha == 1 else passes * (base + inner) / num_layers
            return inner + guests + sum(gate.flops_per_token() for gate, _ in parts.values())

        adapted.added_flops = added_flops

    def _unused(self, gates: list[str], alphas: list[str]) -> dict[str, str]:
        """Return why gates or alphas may get no gradient."""
        idle = dict.fromkeys(alphas, "while every layer chooses itself there is nothing to weigh")
        if self.balance:
            return idle
        reason = "while every layer chooses itself the task loss does not depend on the gate"
        if self.router_gradient is RouterGradient.none:
            reason = "no task gradient reaches the gate (method.router_gradient=none), and method.balance is 0"
        elif self.alpha == 1:
            reason = "method.alpha=1 gives the guests no weight"
        return idle | dict.fromkeys(gates, reason)


def _layer_list_problems(name: str, chosen: Any, words: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with a word for layers or a list of them."""
    if isinstance(chosen, str):
        if chosen not in words:
            yield f".{name} must be {', '.join(words)} or a list of layers, got {chosen}"
    elif not isinstance(chosen, list) or not chosen or not all(type(each) is int and each >= 0 for each in chosen):
        yield f".{name} must be {', '.join(words)} or a list of layers from 0, got {chosen}"
    elif len(set(chosen)) < len(chosen):
        yield f".{name} must name each layer once, got {chosen}"
