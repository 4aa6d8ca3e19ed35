"""A run as one Hugging Face model, where its update is one weight."""

from pathlib import Path

import torch

from molex_cli.checkpoints import adapter
from molex_cli.checkpoints.adapter import Saved
from molex_cli.checkpoints.folders import new_folder, require_new
from molex_cli.checkpoints.saved_run import adapter_file
from molex_cli.config.task import Kind
from molex_cli.errors import ConfigError, MethodError
from molex_cli.methods.base import Adapted
from molex_cli.models.sources import save
from molex_cli.runtime.hardware import Base


def merge(run: Path, which: str, output: Path) -> Saved:
    """Write the run's model with its updates in the weights, and its tokenizer; return its settings."""
    require_new(output)
    file = adapter_file(run, which)
    _require_one_weight(adapter.read_about(file))
    saved, adapted = adapter.load(file)
    if adapted.routers:
        raise MethodError(
            "molex merge must be given a run without routers, got one whose expert or layer depends on the input, so "
            "that no one weight is equal to it; use the run itself, with molex predict"
        )
    saved.experiment.method.merge(adapted)
    _require_plain(saved, adapted)
    config = adapted.model.config
    if saved.experiment.task.kind is Kind.classification:
        config.id2label = dict(enumerate(saved.labels))
        config.label2id = {label: number for number, label in enumerate(saved.labels)}
    if adapted.backbone.is_language_model:
        config.use_cache = True
    with new_folder(output) as folder:
        save(adapted.model, adapted.backbone.tokenizer, folder)
    return saved


def _require_plain(saved: Saved, adapted: Adapted) -> None:
    """Raise if a method left modules of its own: others would load random weights in the place of theirs."""
    with torch.device("meta"):
        plain = type(adapted.model)(adapted.model.config)
    if strange := sorted(set(adapted.model.state_dict()) ^ set(plain.state_dict())):
        raise MethodError(
            f"molex merge must be given a run whose method leaves a plain model behind, got "
            f"{saved.experiment.method.name}, whose merged model differs in {', '.join(strange[:3])}"
        )


def _require_one_weight(saved: Saved) -> None:
    hardware = saved.experiment.hardware
    if hardware.base is not Base.fp32:
        raise ConfigError(
            f"molex merge must be given a run on a base in fp32, got hardware.base={hardware.base.name}: its update "
            "was trained on other weights than those that would be written; molex export keeps it apart"
        )
