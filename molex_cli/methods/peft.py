"""PEFT's own tuners as methods: DoRA, IA3, VeRA and others, as the package `peft` computes them.

Only tuners that stay inside the linears are taken: prompts shift a model's positions, and AdaLoRA needs a call
after every step and a loss of its own (docs/exchange.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from molex_cli.errors import MethodError, nearest
from molex_cli.methods.base import ADAPTERS, Adapted, Group, LayerExperts, Method, freeze, method
from molex_cli.runtime.extras import install

if TYPE_CHECKING:
    from torch import Tensor, nn

    from molex_cli.models.structure import Backbone, Linear

KINDS = ("ia3", "loha", "lokr", "lora", "oft", "vera")  # those that the tests train
LINEARS = ("exclude_modules", "layer_replication", "layers_pattern", "layers_to_transform", "target_modules")
PAPERS = {
    "dora": "Liu et al. 2024, arXiv 2402.09353",
    "ia3": "Liu et al. 2022, arXiv 2205.05638",
    "loha": "Hyeon-Woo et al. 2021, arXiv 2108.06098",
    "lokr": "Yeh et al. 2023, arXiv 2309.14859",
    "lora": "Hu et al. 2022, arXiv 2106.09685",
    "oft": "Qiu et al. 2023, arXiv 2306.07280",
    "vera": "Kopiczko et al. 2023, arXiv 2310.11454",
}
SET_HERE = (
    "inference_mode",
    "modules_to_save",
    "peft_type",
    "target_parameters",
    "task_type",
    "trainable_token_indices",
)
INITIALISATIONS = (True, False, "gaussian", "orthogonal")  # the others change the base or need data
PREFIX = "base_model.model."  # what PEFT writes before the names of the model it wraps; it has no constant for that


@method("peft")
@dataclass(kw_only=True)
class Peft(Method):
    """A tuner of PEFT in the targeted linears."""

    name: str = "peft"
    display_name: str = "PEFT"
    learning_rate: float = 5e-4
    kind: str = "lora"
    """Which tuner, by PEFT's name for its type."""
    config: dict[str, Any] = field(default_factory=dict)
    """The tuner's own settings, by the names of its PEFT config class; what is left out has PEFT's default."""
    targets: list[str] = field(default_factory=lambda: ["all-linear"])
    """Linears to adapt: all-linear (all in the blocks), ends of names, or regular expressions."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if not find_spec("peft"):
            yield f"={self.name} must have PEFT, got none; {install('peft')}"
        if self.kind not in KINDS:
            yield f".kind must be one of {', '.join(KINDS)}, got {self.kind}; {nearest(self.kind, KINDS)}"
        for name in sorted({*LINEARS, *SET_HERE} & set(self.config)):
            way_out = "; linears are chosen with method.targets" if name in LINEARS else ""
            yield f".config.{name} must be left out, got {self.config[name]}{way_out}"
        if self.config.get("init_lora_weights", True) not in INITIALISATIONS:
            yield f".config.init_lora_weights must be {_words(INITIALISATIONS)}, got {self.config['init_lora_weights']}"
        if not self.targets:
            yield ".targets must name at least one linear, got []; all-linear takes all in the blocks"

    def paper(self) -> str:
        """Return the tuner's paper: DoRA is a setting of LoRA."""
        return PAPERS["dora" if self.config.get("use_dora") else self.kind]

    def inject(self, backbone: "Backbone") -> Adapted:
        """Let PEFT replace the targeted linears."""
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

        from molex_cli.models.structure import features

        targets = backbone.targets(self.targets)
        config = self.peft_config(targets)
        head = backbone.head()
        try:
            PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](backbone.model, config, "default")
        except (TypeError, ValueError) as error:
            raise MethodError(f"{self.name} and method.config must fit {backbone.name}, got: {_line(error)}") from error
        adapters = {n: p for n, p in backbone.model.named_parameters() if p.requires_grad and n not in head}
        groups = freeze(backbone, Group(name=ADAPTERS, parameters=adapters))
        modules = [backbone.model.get_submodule(linear.name) for linear in targets]
        widths = [features(linear.module)[0] for linear in targets]

        def added_flops(base: float, active: bool) -> float:
            return sum(_flops_per_token(m, width) for m, width in zip(modules, widths, strict=True))

        return Adapted(backbone=backbone, groups=groups, added_flops=added_flops)

    def merge(self, adapted: Adapted) -> None:
        """Let PEFT add every update to its linear's weight, and put the linear back."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, module in list(adapted.model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge(safe_merge=True)
                adapted.model.set_submodule(name, module.base_layer)

    def export(self, adapted: Adapted) -> "tuple[dict[str, Tensor], Any]":
        """Return the tensors and the config of a tuner that is PEFT's own already."""
        from peft import get_peft_model_state_dict

        config = adapted.model.peft_config["default"]
        shared = {}
        if config.peft_type == "VERA":
            config.save_projection = False  # PEFT finds the matrices that all layers share only in a model it wrapped
            layer = next(module for module in adapted.model.modules() if hasattr(module, "vera_A"))
            shared = {f"base_model.{name}": getattr(layer, name)["default"] for name in ("vera_A", "vera_B")}
        state = get_peft_model_state_dict(adapted.model, save_embedding_layers=False)
        if shared:
            config.save_projection = True
        return {f"{PREFIX}{name}": tensor for name, tensor in state.items()} | shared, config

    def experts(self, adapted: Adapted) -> Mapping[int, LayerExperts]:
        """Return none: no tuner that is taken has experts."""
        return {}

    def peft_config(self, targets: "Sequence[Linear]") -> Any:
        """Return PEFT's config of the tuner on these linears; raise MethodError for settings that it does not take."""
        from peft import PeftType
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[self.kind.upper()]]
        known = {each.name for each in fields(kind)} - {*LINEARS, *SET_HERE}
        for name in self.config:
            if name not in known:
                raise MethodError(f"method.config.{name} is no setting of {kind.__name__}; {nearest(name, known)}")
        own = dict(self.config)
        if "fan_in_fan_out" in known:
            own.setdefault("fan_in_fan_out", any(type(each.module).__name__ == "Conv1D" for each in targets))
        try:
            return kind(target_modules=[linear.name for linear in targets], **own)
        except (TypeError, ValueError) as error:
            raise MethodError(f"method.config must be settings of {kind.__name__}, got: {_line(error)}") from error


def _flops_per_token(module: "nn.Module", num_in: int) -> float:
    """Return the FLOPs of matrix products that one more token costs in a tuner's layer, without its base linear.

    What a layer computes once a forward pass, such as LoHa's weight, is the same for one token and for many.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    device = next(module.parameters()).device

    def counted(part: Any, tokens: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.random.fork_rng(devices=[]):
            part(torch.zeros(1, tokens, num_in, device=device))
        return counter.get_total_flops()

    was_training = module.training
    module.train()  # DoRA does more under dropout
    both = [counted(module, tokens) - counted(module.base_layer, tokens) for tokens in (1, 2)]
    module.train(was_training)
    return both[1] - both[0]


def _words(values: "Sequence[Any]") -> str:
    return ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
