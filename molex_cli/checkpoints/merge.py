"""A run as one Hugging Face model, where its update is one weight."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from molex_cli.checkpoints import adapter
from molex_cli.checkpoints.adapter import Saved
from molex_cli.checkpoints.folders import new_folder, require_new
from molex_cli.checkpoints.saved_run import adapter_file
from molex_cli.config.task import Kind
from molex_cli.errors import ConfigError, MethodError
from molex_cli.layers.experts import LowRankExperts
from molex_cli.methods.base import Adapted
from molex_cli.runtime.hardware import Base


def merge(run: Path, which: str, output: Path) -> Saved:
    """Write the run's model with its updates in the weights, and its tokenizer; return what its file says."""
    require_new(output)
    file = adapter_file(run, which)
    _require_one_weight(adapter.read_about(file))
    saved, adapted = adapter.load(file)
    merge_updates(adapted)
    config = adapted.model.config
    if saved.experiment.task.kind is Kind.classification:
        config.id2label = dict(enumerate(saved.labels))
        config.label2id = {label: number for number, label in enumerate(saved.labels)}
    if adapted.backbone.is_language_model:
        config.use_cache = True
    with new_folder(output) as folder:
        adapted.model.save_pretrained(folder)
        adapted.backbone.tokenizer.save_pretrained(folder)
    return saved


def merge_updates(adapted: Adapted) -> None:
    """Add every update to its linear's weight and put the linear back; raise MethodError where a router chooses."""
    if adapted.routers:
        raise MethodError(
            "molex merge must be given a run without routers, got one whose expert or layer depends on the input, so "
            "that no one weight is equal to it; ask the run itself with molex predict"
        )
    for name, module in list(adapted.model.named_modules()):
        if isinstance(module, LowRankExperts):
            _put(adapted.model, name, _merged(module))
        elif hasattr(module, "base_layer") and hasattr(module, "merge"):  # a tuner's layer of PEFT
            module.merge(safe_merge=True)
            _put(adapted.model, name, module.base_layer)


@torch.no_grad()
def _merged(module: LowRankExperts) -> nn.Module:
    """Return the base linear with W + scale x sum over experts of B A, both of [out, in]."""
    base, together = module.base, module.fused
    assert isinstance(base, nn.Linear | Conv1D)
    assert together is not None
    update_io = torch.einsum("eri,ero->io", module.down, module.up) * together.shape.scale
    # A new tensor: copies of a model may share the old one.
    base.weight = nn.Parameter(base.weight + (update_io if isinstance(base, Conv1D) else update_io.t()))
    return base


def _put(model: Any, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _require_one_weight(saved: Saved) -> None:
    hardware = saved.experiment.hardware
    if hardware.base is not Base.fp32:
        raise ConfigError(
            f"molex merge must be given a run on a base in fp32, got hardware.base={hardware.base.name}: its update "
            "was trained on other weights than those that would be written; molex export keeps it apart"
        )
