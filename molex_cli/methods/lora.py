"""LoRA: a low-rank update of frozen linears, h = W x + (alpha / r) B A x (Hu et al. 2022, equation 3)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from molex_cli.errors import ConfigError, MethodError
from molex_cli.methods.allocation import Allocation, experts_per_layer
from molex_cli.methods.base import Adapted, LayerExperts, Method, method
from molex_cli.methods.low_rank import inject_experts, low_rank_modules
from molex_cli.methods.peft import PREFIX
from molex_cli.statistics.expert_similarity import layer_and_module

if TYPE_CHECKING:
    from torch import Tensor

    from molex_cli.layers.experts import LowRankExperts
    from molex_cli.models.structure import Backbone

PARTS = ("query", "key", "value")


class Scaling(Enum):
    """What alpha is divided by."""

    alpha_over_rank = "alpha_over_rank"
    alpha_over_root_rank = "alpha_over_root_rank"


@dataclass(kw_only=True)
class Update:
    """Settings of low-rank updates."""

    rank: int = 8
    """Rank r of an update."""
    alpha: float = 16.0
    """The update is scaled by alpha over the rank of its own linear, or over its root (`scaling`)."""
    dropout: float = 0.05
    """Dropout on the input of the update."""
    targets: list[str] = field(default_factory=lambda: ["all-linear"])
    """Linears to adapt: all-linear (all in the blocks), ends of names, or regular expressions."""
    joint_parts: list[str] = field(default_factory=list)
    """Of a joint query-key-value linear (GPT-2's c_attn): parts that get factors of their own; [] takes it as one."""
    same_start: bool = False
    """Let the A's of all layers start alike, as where a model's blocks are copies of one."""
    dropout_per_expert: bool = False
    """Draw a dropout mask for each linear and expert instead of one for all that share an input."""
    scaling: Scaling = Scaling.alpha_over_rank
    """alpha_over_rank, or alpha_over_root_rank (rsLoRA), which lets updates of a high rank learn as fast."""

    @property
    def scale(self) -> float:
        """Return the factor of B A: alpha / r, or alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732)."""
        return self.alpha / (self.rank if self.scaling is Scaling.alpha_over_rank else math.sqrt(self.rank))

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if self.rank < 1:
            yield f".rank must be at least 1, got {self.rank}"
        if self.alpha <= 0:
            yield f".alpha must be above 0, got {self.alpha}"
        if not 0 <= self.dropout < 1:
            yield f".dropout must be at least 0 and below 1, got {self.dropout}"
        if not self.targets:
            yield ".targets must name at least one linear, got []; all-linear takes all in the blocks"
        if not set(self.joint_parts) <= set(PARTS) or len(set(self.joint_parts)) < len(self.joint_parts):
            yield f".joint_parts must be different ones of {', '.join(PARTS)}, got {list(self.joint_parts)}"


@dataclass(kw_only=True)
class LowRank(Update, Method):
    """Settings of every method that adds low-rank updates to the base's own linears."""

    solvable: ClassVar[Mapping[str, str]] = {"rank": "rank"}

    def merge(self, adapted: Adapted) -> None:
        """Add every update to its linear's weight and put the linear back."""
        from molex_cli.layers.experts import LowRankExperts
        from molex_cli.layers.joint_linear import JointLinear

        for name, module in list(adapted.model.named_modules()):
            if isinstance(module, JointLinear) or (isinstance(module, LowRankExperts) and module.base is not None):
                adapted.model.set_submodule(name, module.merged())

    def export(self, adapted: Adapted) -> "tuple[dict[str, Tensor], Any]":
        """Return A [r, in] and B [out, r] of every adapted linear by PEFT's names, and PEFT's config of them."""
        from peft import LoraConfig

        modules = low_rank_modules(adapted)
        if any(module.num_experts > 1 for module in modules.values()):
            return super().export(adapted)
        if any(module.base is None for module in modules.values()):
            raise MethodError(
                "molex export must be given factors of whole linears, got method.joint_parts="
                f"[{','.join(self.joint_parts)}], which PEFT has none for; molex merge writes the model"
            )
        # Named by hand: get_peft_model_state_dict names the modules of a model that PEFT has wrapped.
        tensors = {f"{PREFIX}{name}.lora_A.weight": module.down[0] for name, module in modules.items()}
        tensors |= {f"{PREFIX}{name}.lora_B.weight": module.up[0].t() for name, module in modules.items()}
        config = LoraConfig(
            r=self.rank,
            rank_pattern={name: module.rank for name, module in modules.items() if module.rank != self.rank},
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            use_rslora=self.scaling is Scaling.alpha_over_root_rank,
            target_modules=list(modules),
            fan_in_fan_out=any(module.is_transposed for module in modules.values()),
        )
        return tensors, config

    def experts(self, adapted: Adapted) -> Mapping[int, LayerExperts]:
        """Return the experts of each layer: those of equal number in all its linears are one."""
        from molex_cli.layers.experts import LowRankLayer

        layers: dict[int, list[LowRankExperts]] = {}
        for name, module in low_rank_modules(adapted).items():
            layers.setdefault(layer_and_module(name)[0], []).append(module)
        return {layer: LowRankLayer(modules) for layer, modules in sorted(layers.items())}

    def factors(self, adapted: Adapted) -> "Mapping[str, tuple[Tensor, Tensor, float]]":
        """Return A [E, r, in], B [E, r, out] and the factor of their product for each linear, by its name."""
        modules = low_rank_modules(adapted)
        return {name: (m.down, m.up, replace(self, rank=m.rank).scale) for name, m in modules.items()}

    def low_rank(self) -> Update:
        """Return these settings."""
        return self

    def with_dropout(self, dropout: float) -> Self:
        """Return the same method with this dropout in its adapters."""
        return replace(self, dropout=dropout)


@method("lora")
@dataclass(kw_only=True)
class LoRA(LowRank):
    """One low-rank update on every targeted linear.

    With an allocation N_j, layer j has rank r N_j and the factor alpha / (r N_j): what N_j experts of rank r add
    whose gates are 1 / N_j each, so that MoLA of the same allocation differs in nothing but that it routes. Under
    rsLoRA's scaling the factor is alpha / sqrt(r N_j), which is that of N_j experts times sqrt(N_j).
    """

    solvable: ClassVar[Mapping[str, str]] = {"rank": "rank", "total": "allocation.total", "mean": "allocation.mean"}
    name: str = "lora"
    display_name: str = "LoRA"
    learning_rate: float = 5e-4
    allocation: Allocation = field(default_factory=Allocation)
    """How many times `rank` each layer gets; as long as nothing of it is set, once."""

    def paper(self) -> str:
        """Return the paper that the method is from."""
        return "Hu et al. 2022, arXiv 2106.09685"

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        yield from super().problems()
        yield from (f".allocation{problem}" for problem in self.allocation.problems())
        if self.allocation != Allocation() and not self.allocation.is_set:
            yield ".allocation must set shape, rule, mean, total, bands or layers where it sets anything, got none"

    def layer_problems(self, num_layers: int) -> Iterator[str]:
        """Yield what is wrong with the allocation for a model of so many layers."""
        try:
            self.rank_per_layer(num_layers)
        except ConfigError as error:
            yield from error.problems

    def rank_per_layer(self, num_layers: int) -> tuple[int, ...] | None:
        """Return the rank of each layer, or None where they are all alike; raise ConfigError for an impossible one."""
        if not self.allocation.is_set:
            return None
        return tuple(self.rank * count for count in experts_per_layer(self.allocation, num_layers))

    def inject(self, backbone: "Backbone") -> Adapted:
        """Replace the targeted linears by ones with an update."""
        ranks = self.rank_per_layer(backbone.num_layers)
        experts = [min(1, rank) for rank in ranks or [self.rank] * backbone.num_layers]
        adapted = inject_experts(self, backbone, experts=experts, ranks=ranks)
        adapted.rank_per_layer = ranks
        return adapted
