"""Putting low-rank updates into the linears of a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from molex_cli.errors import MethodError
from molex_cli.methods.base import ADAPTERS, Adapted, Group, freeze
from molex_cli.statistics.expert_similarity import layer_and_module

if TYPE_CHECKING:
    from molex_cli.layers.experts import LowRankExperts
    from molex_cli.layers.fixed_gates import FixedGates
    from molex_cli.layers.routing_statistics import LayerRouting
    from molex_cli.methods.lora import Update
    from molex_cli.models.structure import Backbone, Linear


def low_rank_modules(adapted: Adapted) -> "dict[str, LowRankExperts]":
    """Return the adapted linears by name."""
    from molex_cli.layers.experts import LowRankExperts

    return {name: each for name, each in adapted.model.named_modules() if isinstance(each, LowRankExperts)}


def inject_experts(
    settings: "Update",
    backbone: "Backbone",
    *,
    experts: Sequence[int],
    ranks: Sequence[int] | None = None,
    top_k: int = 1,
    routings: "dict[int, LayerRouting] | None" = None,
    fixed_gates: "Callable[..., FixedGates] | None" = None,
    key: str = "method.targets",
) -> Adapted:
    """Give every targeted linear of layer j `experts[j]` low-rank experts and return the handles.

    A layer of no experts is left as it is. `ranks` gives each layer a rank of its own instead of the settings'.
    `fixed_gates` makes gates instead of routers, from the number of experts and the linears' names.
    """
    modules = put_experts(
        [replace(settings, rank=rank) for rank in ranks] if ranks else [settings] * backbone.num_layers,
        backbone,
        targets_with_experts(settings, backbone, ranks or experts, key),
        experts=experts,
        top_k=top_k,
        routings=routings or {},
        fixed_gates=fixed_gates,
        key=key,
    )
    if settings.same_start:
        start_alike(modules)

    def added_flops(base: float, active: bool) -> float:
        return sum(m.flops_per_token(top_k if active else None) for m in modules.values())

    return adapted_by(backbone, modules, added_flops)


def targets_with_experts(
    settings: "Update", backbone: "Backbone", counts: Sequence[int], key: str = "method.targets"
) -> "list[Linear]":
    """Return the targeted linears of layers whose count, of experts or ranks, is not 0; raise MethodError for none."""
    if targets := [linear for linear in backbone.targets(settings.targets, key) if counts[linear.layer]]:
        return targets
    raise MethodError(
        f"{key} must match linears of a layer that the allocation gives experts, got "
        f"{', '.join(settings.targets)} and {' '.join(map(str, counts))}"
    )


def put_experts(
    settings: "Sequence[Update]",
    backbone: "Backbone",
    targets: "Sequence[Linear]",
    *,
    experts: Sequence[int],
    top_k: int = 1,
    routings: "Mapping[int, LayerRouting]",
    fixed_gates: "Callable[..., FixedGates] | None" = None,
    key: str = "method.targets",
) -> "dict[str, LowRankExperts]":
    """Replace these linears, by the settings of each layer, and return what took their place, by name."""
    from molex_cli.models.structure import shared_inputs

    modules: dict[str, LowRankExperts] = {}
    for linears in shared_inputs(targets):
        layer = linears[0].layer
        own = settings[layer]
        routing = routings.get(layer)
        members: dict[str, LowRankExperts] = {}
        for linear in linears:
            parts = backbone.joint_parts(linear, key.replace("targets", "joint_parts")) if own.joint_parts else ()
            members |= _replaced(own, backbone, linear, parts, experts[layer], routed=fixed_gates is None)
        gates = fixed_gates(experts[layer], names=list(members)) if fixed_gates and routing else None
        _fuse(own, layer, members, top_k, routing, gates)
        modules |= members
    return modules


def adapted_by(
    backbone: "Backbone", modules: "Mapping[str, LowRankExperts]", added_flops: Callable[[float, bool], float]
) -> Adapted:
    """Freeze all but these modules and the head, and return the handles."""
    groups = freeze(backbone, *_groups(modules))
    return Adapted(backbone=backbone, groups=groups, added_flops=added_flops)


def _groups(modules: "Mapping[str, LowRankExperts]") -> tuple[Group, Group]:
    """Return the parameters that are trained: the experts' matrices and the routers."""
    adapters = {f"{name}.{part}": getattr(each, part) for name, each in modules.items() for part in ("down", "up")}
    routers = {f"{name}.router": each.router for name, each in modules.items() if each.router is not None}
    return Group(name=ADAPTERS, parameters=adapters), Group(name="routers", parameters=routers)


def _replaced(
    settings: "Update", backbone: "Backbone", linear: "Linear", parts: tuple[str, ...], experts: int, *, routed: bool
) -> "dict[str, LowRankExperts]":
    """Put experts into a linear, or into some of the parts of a joint one, and return them by name."""
    from molex_cli.layers.experts import LowRankExperts
    from molex_cli.layers.joint_linear import JointLinear
    from molex_cli.models.structure import features

    num_in, num_out = features(linear.module)
    if not parts:
        whole = LowRankExperts(linear.module, (num_in, num_out), experts, settings.rank, routed=routed)
        backbone.replace(linear, whole)
        return {linear.name: whole}
    size, device = (num_in, num_out // len(parts)), linear.module.weight.device
    updates = {
        part: LowRankExperts(None, size, experts, settings.rank, routed=routed, device=device)
        for part in settings.joint_parts
    }
    backbone.replace(linear, JointLinear(linear.module, parts, updates))
    return {f"{linear.name}.{part}": update for part, update in updates.items()}


def start_alike(modules: "Mapping[str, LowRankExperts]") -> None:
    """Let each A start as that of the lowest layer's linear of the same name."""
    import torch

    first: dict[str, LowRankExperts] = {}
    for name, module in modules.items():
        lowest = first.setdefault(layer_and_module(name)[1], module)
        if lowest.down.shape != module.down.shape:
            raise MethodError(
                f"method.same_start must have factors of one size in all layers, got {list(lowest.down.shape)} and "
                f"{list(module.down.shape)}; set method.same_start=false"
            )
        with torch.no_grad():
            module.down.copy_(lowest.down)


def _fuse(
    settings: "Update",
    layer: int,
    members: "dict[str, LowRankExperts]",
    top_k: int,
    routing: "LayerRouting | None",
    gates: "FixedGates | None",
) -> None:
    """Let the members, which hold what is made here, compute what they share together."""
    from molex_cli.layers.experts import FusedLinears

    FusedLinears(
        list(members.values()),
        top_k=top_k,
        scale=settings.scale,
        dropout=settings.dropout,
        dropout_per_expert=settings.dropout_per_expert,
        routing=routing,
        names=[name.split(f".{layer}.", 1)[-1] for name in members],
        fixed_gates=gates,
    )
