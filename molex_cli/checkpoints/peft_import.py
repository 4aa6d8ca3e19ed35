"""A LoRA adapter that PEFT wrote, as a saved run."""

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.checkpoints.folders import new_folder, require_new
from molex_cli.checkpoints.peft_export import CONFIG, FILE
from molex_cli.config import schema
from molex_cli.config.bounds import unusable
from molex_cli.data import reading
from molex_cli.errors import CheckpointError
from molex_cli.methods.allocation import Allocation
from molex_cli.methods.base import Adapted
from molex_cli.methods.ledger import plan_into
from molex_cli.methods.lora import LoRA, Scaling
from molex_cli.methods.peft import PREFIX
from molex_cli.models.loading import skeleton
from molex_cli.models.structure import ALL_LINEAR, Backbone
from molex_cli.objectives import head_outputs
from molex_cli.runtime.paths import require_file

# Keys of a config that do not change what the tensors mean, or that are read below.
UNDERSTOOD = {"peft_type", "r", "rank_pattern", "lora_alpha", "lora_dropout", "use_rslora", "bias", "init_lora_weights"}
HARMLESS = {"auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out", "inference_mode"}
HARMLESS |= {"layers_pattern", "layers_to_transform", "megatron_core", "modules_to_save", "peft_version"}
HARMLESS |= {"qalora_group_size", "revision", "target_modules", "task_type"}
# How A and B were initialised does not matter, unless that changed the base's own weights.
KEEP_BASE_WEIGHTS = (True, False, None, "gaussian", "orthogonal")


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter folder of LoRA."""

    folder: Path
    settings: LoRA
    """Rank, alpha, dropout and the linears by their full names; where ranks differ, rank divides them all."""
    ranks: Mapping[str, int]
    """Of each linear."""
    tensors: Mapping[str, Tensor]
    """By PEFT's names."""
    base: str | None
    """Which model PEFT put it on."""


def read(folder: Path) -> Adapter:
    """Return what a PEFT folder holds; raise CheckpointError for what LoRA here cannot represent."""
    try:
        config = json.loads(require_file(folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(require_file(folder / FILE))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} must hold {CONFIG} and {FILE}, got no {Path(error.filename or FILE).name}"
        ) from None
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{folder} must be an adapter folder of PEFT, got one that cannot be read ({reason})"
        ) from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(f"{folder} must be an adapter of LoRA, got {kind}")
    _require_plain(folder, config)
    ending = ".lora_A.weight"
    names = [n.removeprefix(PREFIX).removesuffix(ending) for n in tensors if n.endswith(ending)]
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        dropout = float(config.get("lora_dropout", 0))
        given = {rank, *map(int, dict(config.get("rank_pattern") or {}).values())}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{folder} must give r, lora_alpha and lora_dropout as numbers, got: {error}") from None
    ranks = {n: len(a) if (a := tensors[f"{PREFIX}{n}{ending}"]).dim() else 0 for n in names}
    if strange := set(ranks.values()) - given:
        raise CheckpointError(f"{folder} must give the r of its tensors, {min(strange)}, got {_listed(given)}")
    rank = _unit(ranks.values(), rank)
    scaling = Scaling.alpha_over_root_rank if config.get("use_rslora") else Scaling.alpha_over_rank
    settings = LoRA(rank=rank, alpha=alpha, dropout=dropout, targets=sorted(names), scaling=scaling)
    if problems := [*unusable(settings), *settings.problems()]:
        raise CheckpointError(f"{folder} must hold settings of LoRA, got a config in which {problems[0]}")
    return Adapter(folder, settings, ranks, tensors, config.get("base_model_name_or_path"))


def import_adapter(imported: Adapter, given: schema.Experiment, output: Path) -> schema.Experiment:
    """Write a saved run that predicts as the adapter does, and return its experiment."""
    require_new(output)
    labels = reading.read_labels(given.task, given.data_dir)
    backbone = skeleton(given.model, head_outputs(given.task, given.model, labels))
    _require_in_blocks(backbone, imported)
    counts = _counts(backbone, imported)
    allocation = Allocation(layers=counts) if set(counts) != {1} else Allocation()
    method = dataclasses.replace(
        imported.settings, targets=_shortest(backbone, imported, counts), allocation=allocation
    )
    experiment = dataclasses.replace(given, method=method)
    adapted = adapter.adapt(experiment, labels)
    _fill(adapted, imported)
    settings = schema.as_data(experiment)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = records.Record(
        name=experiment.name,
        status="imported",
        variant=records.variant_id(settings),
        seed=experiment.seed,
        settings=settings,
        display={"method": method.display_name},
        started=now,
        finished=now,
        command=sys.argv[1:],
        environment=records.environment(),
    )
    plan_into(record, adapted, experiment.train.max_length)
    with new_folder(output) as folder:
        adapter.save(folder / "adapter-last.safetensors", adapted, experiment, labels, step=0)
        records.write_record(folder, record)
    return experiment


def _require_plain(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a setting under which LoRA here would compute something else."""
    problems = {key: value for key, value in config.items() if value and key not in UNDERSTOOD | HARMLESS}
    if config.get("bias", "none") != "none":
        problems["bias"] = config["bias"]
    if config.get("init_lora_weights") not in KEEP_BASE_WEIGHTS:
        problems["init_lora_weights"] = config["init_lora_weights"]
    if problems:
        key, value = next(iter(problems.items()))
        raise CheckpointError(f"{folder} must be plain LoRA to be imported, got {key}={json.dumps(value)} in {CONFIG}")


def _unit(ranks: Iterable[int], given: int) -> int:
    """Return the rank of which all are multiples: the only one, else the given one or the largest there is."""
    several = set(ranks)
    if len(several) > 1 and given and not any(rank % given for rank in several):
        return given
    return math.gcd(*several) if several else given


def _listed(ranks: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(ranks))))


def _counts(backbone: Backbone, imported: Adapter) -> list[int]:
    """Return how many times the rank each layer has; raise CheckpointError where linears of a layer differ."""
    ranks: dict[int, set[int]] = {}
    for linear in backbone.targets(imported.settings.targets, str(imported.folder)):
        ranks.setdefault(linear.layer, set()).add(imported.ranks[linear.name])
    for layer, several in ranks.items():
        if len(several) > 1:
            raise CheckpointError(
                f"{imported.folder} must give all linears of a layer one rank, got {_listed(several)} in layer {layer}"
            )
    return [min(ranks.get(layer, {0})) // imported.settings.rank for layer in range(backbone.num_layers)]


def _shortest(backbone: Backbone, imported: Adapter, counts: Sequence[int]) -> list[str]:
    """Return the shortest patterns that name just the adapted linears, in the layers that have any."""
    names = imported.settings.targets
    for patterns in ([ALL_LINEAR], sorted({name.rpartition(".")[2] for name in names})):
        if {linear.name for linear in backbone.targets(patterns) if counts[linear.layer]} == set(names):
            return patterns
    return names


def _require_in_blocks(backbone: Backbone, imported: Adapter) -> None:
    """Raise CheckpointError for what PEFT adapted and methods here do not: a pooler, as all-linear takes with BERT."""
    inside = {linear.name for linear in backbone.linears()}
    known = dict(backbone.model.named_modules())
    outside = [name for name in imported.settings.targets if name not in inside and name in known]
    if outside:
        raise CheckpointError(
            f"{imported.folder} must adapt linears inside the blocks alone, got {', '.join(outside)} too, which is not "
            f"adapted here; train it with exclude_modules={json.dumps(outside)} in PEFT's LoraConfig"
        )


def _fill(adapted: Adapted, imported: Adapter) -> None:
    """Copy PEFT's tensors into our parameters; each tensor must have its parameter, and each parameter its tensor."""
    left = dict(imported.tensors)
    for name, parameter in adapted.trainable().items():
        linear, _, part = name.rpartition(".")
        name_there = PREFIX + {"down": f"{linear}.lora_A.weight", "up": f"{linear}.lora_B.weight"}.get(part, name)
        if name_there not in left:
            raise CheckpointError(
                f"{imported.folder} must hold all that is trained here, got no {name_there}; a head belongs into "
                "modules_to_save"
            )
        tensor = left.pop(name_there)
        shaped = {"down": lambda a: a[None], "up": lambda b: b.t()[None]}.get(part, lambda same: same)(tensor)
        if shaped.shape != parameter.shape:
            raise CheckpointError(
                f"{imported.folder}: {name_there} must fit {list(parameter.shape)}, got {list(shaped.shape)}; it was "
                "trained on another model or another number of labels"
            )
        with torch.no_grad():
            parameter.copy_(shaped)
    if left:
        raise CheckpointError(
            f"{imported.folder} must hold low-rank updates and the head alone, got {min(left)} too, which LoRA "
            "here does not train"
        )
