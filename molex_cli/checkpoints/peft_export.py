"""A run as a PEFT adapter folder: adapter_config.json and adapter_model.safetensors."""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from molex_cli.checkpoints import adapter
from molex_cli.checkpoints.adapter import Saved
from molex_cli.checkpoints.folders import new_folder, require_new
from molex_cli.checkpoints.saved_run import adapter_file
from molex_cli.errors import ConfigError, MethodError
from molex_cli.layers.experts import LowRankExperts
from molex_cli.methods.base import Adapted
from molex_cli.methods.lora import LowRank
from molex_cli.methods.peft import INSTALL, Peft
from molex_cli.models.structure import Backbone

PREFIX = "base_model.model."  # what PEFT puts before the names of the model it wraps
FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def export(run: Path, which: str, output: Path) -> Saved:
    """Write a run's adapter as PEFT's and return what the run's file says of itself."""
    require_new(output)
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ConfigError(f"molex export must have PEFT, {INSTALL}") from None
    saved, adapted = adapter.load(adapter_file(run, which))
    tensors, config = _of_tuner(adapted) if isinstance(saved.experiment.method, Peft) else _of_lora(saved, adapted)
    head = head_modules(adapted.backbone)
    model = saved.experiment.model
    config.base_model_name_or_path, config.revision = model.hub or model.folder, model.revision
    config.task_type = "CAUSAL_LM" if adapted.backbone.is_language_model else "SEQ_CLS"
    config.inference_mode = True
    config.modules_to_save = head or None
    for module in head:
        state = adapted.model.get_submodule(module).state_dict()
        tensors |= {f"{PREFIX}{module}.{name}": tensor for name, tensor in state.items()}
    with new_folder(output) as folder:
        config.save_pretrained(folder)
        adapter.write_tensors(folder / FILE, tensors, {"format": "pt"})
    return saved


def head_modules(backbone: Backbone) -> list[str]:
    """Return the modules that hold the head: whole ones beside the base model, single ones inside it."""
    inside = f"{backbone.model.base_model_prefix}."
    names = backbone.head()
    return sorted({n.rpartition(".")[0] if n.startswith(inside) else n.partition(".")[0] for n in names})


def _of_lora(saved: Saved, adapted: Adapted) -> tuple[dict[str, Tensor], Any]:
    """Return A [r, in] and B [out, r] of every adapted linear by PEFT's names, and PEFT's config of them."""
    from peft import LoraConfig

    method = saved.experiment.method
    modules = {n: m for n, m in adapted.model.named_modules() if isinstance(m, LowRankExperts)}
    if not isinstance(method, LowRank) or adapted.routers:
        raise MethodError(
            f"molex export must be given a run of LoRA, one expert and no router in each linear, got {method.name}"
        )
    tensors = {f"{PREFIX}{name}.lora_A.weight": module.down[0] for name, module in modules.items()}
    tensors |= {f"{PREFIX}{name}.lora_B.weight": module.up[0].t() for name, module in modules.items()}
    config = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=list(modules),
        fan_in_fan_out=any(isinstance(module.base, Conv1D) for module in modules.values()),
    )
    return tensors, config


def _of_tuner(adapted: Adapted) -> tuple[dict[str, Tensor], Any]:
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
