"""The ledger: exact parameters by part and FLOPs per token, from shapes alone."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from molex_cli.methods.base import ADAPTERS, Adapted
from molex_cli.records import Record


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a method costs on a model."""

    parameters: dict[str, int]
    """By part, then `added` (trainable without the head), `trainable` and `total`."""
    experts_per_layer: list[int] | None
    rank_per_layer: list[int] | None
    flops_per_token: dict[str, float]
    """Forward FLOPs of the blocks: `base` alone; `active`, with the experts the router chooses; `computed`,
    with all experts, as the stacked product executes them. Attention is counted at the given length."""


def ledger(adapted: Adapted, length: int) -> Plan:
    """Count an adapted model, real or without weights; `length` is the tokens of a sequence."""
    parts = {group.name: sum(p.numel() for p in group.parameters.values()) for group in adapted.groups}
    trainable = sum(parts.values())
    total = sum(p.numel() for p in adapted.model.parameters())
    added = {p for group in adapted.groups if group.name == ADAPTERS for p in group.parameters.values()}
    base = base_flops(adapted.backbone, length, added)
    return Plan(
        parameters=parts | {"added": trainable - parts["head"], "trainable": trainable, "total": total},
        experts_per_layer=list(adapted.experts_per_layer) if adapted.experts_per_layer else None,
        rank_per_layer=list(adapted.rank_per_layer) if adapted.rank_per_layer else None,
        flops_per_token={
            "base": base,
            "active": base + adapted.added_flops(base, True),
            "computed": base + adapted.added_flops(base, False),
        },
    )


def base_flops(backbone: Any, length: int, added: Container[Any] = ()) -> float:
    """Return forward FLOPs a token of the blocks: 2 for each weight of a linear, 4 x length x width for attention.

    `added` has the parameters that a method added; linears of such are no part of the base.
    """
    config = backbone.model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 4 * length * width * config.num_attention_heads * backbone.num_layers
    weights = [linear.module.weight for linear in backbone.linears()]
    linears = sum(2 * weight.numel() for weight in weights if weight not in added)
    return float(linears + attention)


def plan_into(record: Record, adapted: Adapted, length: int) -> None:
    """Fill in parameters, experts and FLOPs."""
    plan = ledger(adapted, length)
    record.parameters = plan.parameters
    record.experts_per_layer, record.rank_per_layer = plan.experts_per_layer, plan.rank_per_layer
    record.flops_per_token = plan.flops_per_token
