"""How MoLEx is put into a backbone: which layers mix with which, their gates, and the handles to them."""

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from molex_cli.errors import ConfigError, MethodError
from molex_cli.layers.fixed_gates import RandomGate
from molex_cli.layers.gates import CosineGate, HostWeight, LinearGate
from molex_cli.layers.guest_vote import NONE, TOKEN, GuestVote
from molex_cli.layers.mixing import MixedBlock, guest_weights
from molex_cli.layers.prompt_mask import PromptTokens
from molex_cli.methods.base import Adapted, Group
from molex_cli.methods.molex import AlphaForm, Gate, Level, MoLEx, Router, Voters

AnyGate = LinearGate | CosineGate | RandomGate
Parts = dict[int, tuple[AnyGate, HostWeight]]
COSINE_FEATURES = 96


def inject(settings: MoLEx, backbone: Any) -> Adapted:
    """Put in the inner method, then wrap the blocks that mix, and return the handles."""
    _require_fit(settings, backbone)
    num_layers, blocks = backbone.num_layers, list(backbone.blocks)
    adapted = settings.inject_inner(backbone)
    guests = _guests(settings, backbone)
    tokens = PromptTokens(
        backbone.model,
        count_padding=settings.count_padding,
        is_decoder=backbone.is_decoder,
        every_token=settings.voters is Voters.all,
        attend_padding=settings.attend_padding,
        pad_to=settings.pad_to,
    )
    parts = _parts(settings, backbone, list(guests), tokens)
    tokens.prepared.append(functools.partial(guest_weights, {layer: alpha for layer, (_, alpha) in parts.items()}))
    votes: dict[int, GuestVote] = {}
    for mixing_index, (layer, allowed) in enumerate(guests.items()):
        balanced = settings.balance > 0 and settings.router is Router.learned
        votes[layer] = GuestVote(layer, allowed, num_layers, settings.level.name, tokens, balanced=balanced)
        gate, host_weight = parts[layer]
        backbone.blocks[layer] = MixedBlock(
            (layer, mixing_index),
            blocks,
            gate,
            host_weight,
            votes[layer],
            router_gradient=settings.router_gradient.name if settings.router is Router.learned else NONE,
            compute_self=settings.compute_self,
        )
    adapted.assume_choices = functools.partial(_assume, votes)
    tokens.watch(backbone.model)
    adapted.routers, adapted.tokens = dict(votes), tokens
    adapted.balances = tokens.voted.balances
    adapted.shard_parts = functools.partial(_shard_parts, backbone)
    _complete(settings, adapted, parts, votes)
    return adapted


def _require_fit(settings: MoLEx, backbone: Any) -> None:
    """Refuse a model whose layers cannot replace each other."""
    if problems := list(settings.layer_problems(backbone.num_layers)):
        raise ConfigError(problems)
    if any(isinstance(module, MixedBlock) for module in backbone.model.modules()):
        raise MethodError(f"method={settings.name} must be put into a plain model, got MoLEx in {backbone.name}")
    if settings.level is Level.token and backbone.is_decoder:
        raise MethodError(
            f"method.level must be sequence or batch for a decoder, got token on {backbone.name}: a guest that a "
            "new token chooses has no keys and values of the tokens before it"
        )
    kinds = set(getattr(backbone.model.config, "layer_types", None) or ())
    shapes = {tuple((name, p.shape) for name, p in block.named_parameters()) for block in backbone.blocks}
    if len(kinds) > 1 or len(shapes) > 1:
        named = ", ".join(sorted(kinds)) if len(kinds) > 1 else "different sizes"
        raise MethodError(f"method={settings.name} must have layers of one kind, got {named} in {backbone.name}")


def _guests(settings: MoLEx, backbone: Any) -> dict[int, list[int]]:
    """Return the layers that mix, each with the layers that may be its guests; one with itself alone does not mix."""
    num_layers = backbone.num_layers
    half = list(range(max(1, num_layers // 2)))
    every = list(range(num_layers))
    words = {"all": every, "first_half": half, "published": half if backbone.is_decoder else every}
    mixing = words[settings.layers] if isinstance(settings.layers, str) else sorted(settings.layers)

    def allowed(layer: int) -> list[int]:
        if not isinstance(settings.guests, str):
            return sorted(settings.guests)
        return every[layer:] if settings.guests == "later" else words[settings.guests]

    guests = {layer: allowed(layer) for layer in mixing if allowed(layer) != [layer]}
    if not guests:
        raise MethodError(
            f"method.guests must leave some mixing layer a guest other than itself, got {settings.guests} "
            f"with method.layers={settings.layers} on {backbone.name}"
        )
    return guests


def _parts(settings: MoLEx, backbone: Any, layers: list[int], tokens: PromptTokens) -> Parts:
    """Return gate and alpha of each mixing layer, shared or its own."""
    width, num_layers = backbone.model.config.hidden_size, backbone.num_layers
    device = next(backbone.blocks.parameters()).device

    def gate(layer: int) -> AnyGate:
        if settings.router is Router.random:
            return RandomGate(layer, num_layers, tokens, per_token=settings.level is Level.token)
        if settings.gate is Gate.linear:
            return LinearGate(width, num_layers, device)
        features = settings.gate_dim or COSINE_FEATURES
        return CosineGate(width, num_layers, device, projected=features, over_tokens=settings.gate_over_tokens)

    def host_weight() -> HostWeight:
        learned, softmax = settings.alpha_form is not AlphaForm.fixed, settings.alpha_form is AlphaForm.softmax
        return HostWeight(settings.alpha, device, learned=learned, softmax=softmax)

    shared = gate(layers[0]), host_weight()
    own_gates = settings.gate_per_layer or settings.router is Router.random
    return {
        layer: (
            gate(layer) if own_gates and layer != layers[0] else shared[0],
            host_weight() if settings.alpha_per_layer and layer != layers[0] else shared[1],
        )
        for layer in layers
    }


def _assume(votes: dict[int, GuestVote]) -> None:
    """Let every row of every mixing layer have a guest other than the layer itself."""
    for vote in votes.values():
        vote.is_assumed = True


def _shard_parts(backbone: Any) -> list[nn.Module]:
    """Return the blocks without what mixes them, and let all processes call the same guests from now on."""
    parts = []
    for block in backbone.blocks:
        if isinstance(block, MixedBlock):
            block.in_step = True
        parts.append(block.host if isinstance(block, MixedBlock) else block)
    return parts


def _complete(settings: MoLEx, adapted: Adapted, parts: Parts, votes: dict[int, GuestVote]) -> None:
    """Add the groups of gates and alphas, the balance loss, the cost, and what is known of gradients."""
    name_of = {parameter: name for name, parameter in adapted.model.named_parameters()}
    for group in adapted.groups:  # wrapping has renamed what lies in the hosts
        group.parameters = {name_of[p]: p for p in group.parameters.values()}
    own: dict[str, Any] = {
        "learning_rate": settings.gate_learning_rate,
        "weight_decay": settings.gate_weight_decay,
    }
    for name, modules in (("gates", [gate for gate, _ in parts.values()]), ("alphas", [a for _, a in parts.values()])):
        parameters = {name_of[p]: p for module in modules for p in module.parameters()}
        if parameters:
            adapted.groups.insert(-1, Group(name=name, parameters=parameters, **own))  # the head stays last
    adapted.balance = settings.balance if settings.router is Router.learned else 0.0
    adapted.balance_sum = settings.balance_sum
    adapted.pad_to = settings.pad_to
    adapted.reads_prompt = adapted.backbone.is_decoder and settings.voters is Voters.prompt
    adapted.unused = lambda: {name_of[p]: why for p, why in _unused(settings, parts, votes).items()}
    if settings.level is Level.batch:
        adapted.batch_dependent = "the sequences of a batch choose one guest together"
    adapted.added_flops = _added_flops(settings, adapted, parts, votes)


def _added_flops(
    settings: MoLEx, adapted: Adapted, parts: Parts, votes: dict[int, GuestVote]
) -> Callable[[float, bool], float]:
    """Return a function to the FLOPs a token of the inner method, the guests and the gates."""
    inner_flops, num_layers = adapted.added_flops, adapted.backbone.num_layers

    def added_flops(base: float, active: bool) -> float:
        inner = inner_flops(base, active)
        passes = sum(len(vote.guests) if vote.level == TOKEN and not active else 1 for vote in votes.values())
        guests = 0 if settings.alpha == 1 else passes * (base + inner) / num_layers
        return inner + guests + sum(gate.flops_per_token() for gate, _ in parts.values())

    return added_flops


def _unused(settings: MoLEx, parts: Parts, votes: dict[int, GuestVote]) -> dict[nn.Parameter, str]:
    """Return why gates or alphas have got no gradient so far, where that is known."""
    mixed = {part for layer, pair in parts.items() if votes[layer].has_mixed for part in pair}
    found: dict[nn.Parameter, str] = {}
    for part in dict.fromkeys(part for pair in parts.values() for part in pair):
        reason = "" if part in mixed else "its layers chose nothing but themselves"
        if settings.alpha == 1:
            reason = "method.alpha=1 gives the guests no weight"
        elif not isinstance(part, HostWeight) and settings.router_gradient.name == NONE:
            reason = "no task gradient reaches the gate (method.router_gradient=none), and method.balance is 0"
        if reason and (isinstance(part, HostWeight) or not settings.balance):
            found |= dict.fromkeys(part.parameters(), reason)
    return found
