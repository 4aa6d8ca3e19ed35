"""Save and load what a method trained: a safetensors file that carries its own settings."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from molex_cli.config import schema
from molex_cli.config.bounds import unusable
from molex_cli.data.encoding import Encoded
from molex_cli.errors import CheckpointError, ConfigError, MethodError, reason_of
from molex_cli.methods.base import Adapted, registered_name
from molex_cli.models.loading import load as load_backbone
from molex_cli.models.loading import reader as without_weights
from molex_cli.models.settings import Model
from molex_cli.models.structure import Backbone
from molex_cli.objectives import Objective, head_outputs
from molex_cli.records.partial import renamed_when_whole
from molex_cli.runtime.hardware import random_stream
from molex_cli.runtime.paths import expanded, require_file

FORMAT = 1
ABOUT_DIGEST = "about_sha256"  # over all beside the tensors; adapters of before have none
COMMIT = "base_commit"  # of the hub, that the base model is of; other models and adapters of before have none
BIG_MODEL_PARAMETERS = 10**9  # a second copy of a bigger model is not made to check that it reloads


@dataclass(frozen=True)
class Saved:
    """What an adapter file holds beside the tensors."""

    experiment: schema.Experiment
    labels: list[str]
    step: int
    sha256: str
    """Over names and bytes of the tensors."""
    file: Path


def adapt(experiment: schema.Experiment, labels: Sequence[str]) -> Adapted:
    """Load the backbone with the head that the task needs and put the method into it, from the seed's own streams."""
    cache_dir = Path(experiment.cache_dir) if experiment.cache_dir else None
    outputs = head_outputs(experiment.task, experiment.model, labels)
    backbone = load_backbone(experiment.model, outputs, experiment.seed, cache_dir)
    try:
        with random_stream(experiment.seed, "adapters"):
            return experiment.method.inject(backbone)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        reason = " ".join(str(error).split()).rpartition("] ")[2]  # torch names a line of its own code first
        raise MethodError(
            f"method={experiment.method.name} must fit into memory, got: {reason}; make it smaller"
        ) from None


def reader(experiment: schema.Experiment, labels: Sequence[str]) -> Backbone:
    """Return the experiment's model without weights, to encode and check rows with before it is loaded."""
    cache_dir = Path(experiment.cache_dir) if experiment.cache_dir else None
    return without_weights(experiment.model, head_outputs(experiment.task, experiment.model, labels), cache_dir)


def save(path: Path, adapted: Adapted, experiment: schema.Experiment, labels: list[str], step: int) -> None:
    """Write the trained tensors with the settings that rebuild the model around them."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in adapted.trainable().items()}
    about = {
        "format": FORMAT,
        "sha256": _digest(tensors),
        "method_class": registered_name(experiment.method),
        "settings": schema.as_data(experiment),
        "labels": labels,
        "step": step,
        **({COMMIT: adapted.backbone.commit} if adapted.backbone.commit else {}),
    }
    about[ABOUT_DIGEST] = _about_digest(about)  # among the rest: safetensors writes several texts in any order
    write_tensors(path, tensors, {"molex": json.dumps(about)})


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file under a temporary name and rename it."""
    with renamed_when_whole(path) as temporary:
        save_file({name: each.detach().cpu().contiguous() for name, each in tensors.items()}, temporary, metadata)


def read_about(path: Path) -> Saved:
    """Return what an adapter file holds beside the tensors; raise CheckpointError for a foreign one."""
    try:
        with safe_open(require_file(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; name the folder of a run or an adapter file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} must be a safetensors file, got a damaged or foreign one ({error})") from None
    if "molex" not in metadata:
        raise CheckpointError(f"{path} must be an adapter that molex saved, got a file without its settings")
    try:
        about = json.loads(metadata["molex"])
        if about.pop(ABOUT_DIGEST, None) not in (None, _about_digest(about)):
            raise CheckpointError(f"{path} must hold the settings that were saved, got others; it is damaged")
        if about["format"] != FORMAT:
            raise CheckpointError(f"{path} must be of adapter format {FORMAT}, got {about['format']}")
        experiment = schema.from_data(about["method_class"], about["settings"])
        experiment = _of_commit(experiment, about.get(COMMIT))
        found = Saved(_written_here(experiment), about["labels"], about["step"], about["sha256"], path)
        if problems := [*unusable(experiment), *_mistyped(found)]:
            raise ConfigError(problems)
    except CheckpointError:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        OmegaConfBaseException,
        ConfigError,
    ) as error:
        reason = reason_of(error)
        raise CheckpointError(f"{path} must hold settings of this version of molex, got: {reason}") from None
    return found


def _mistyped(found: Saved) -> Iterator[str]:
    """Yield what a file says beside the settings and is of another kind than it must be."""
    if not isinstance(found.labels, list) or not all(isinstance(label, str) for label in found.labels):
        yield f"labels must be a list of texts, got {found.labels!r}"
    if type(found.step) is not int or found.step < 0:
        yield f"step must be a whole number from 0, got {found.step!r}"
    if not isinstance(found.sha256, str):
        yield f"sha256 must be a text, got {found.sha256!r}"


def _written_here(experiment: schema.Experiment) -> schema.Experiment:
    """Return the experiment without the folders of whoever saved it: what opens a file writes where it says itself."""
    return dataclasses.replace(experiment, cache_dir=None, output_dir=schema.Experiment.output_dir)


def _of_commit(experiment: schema.Experiment, commit: str | None) -> schema.Experiment:
    """Return the experiment with the commit of the base model that its adapter was trained on."""
    if commit is None:
        return experiment
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, revision=commit))


def load(path: Path, cache_dir: str | None = None) -> tuple[Saved, Adapted]:
    """Rebuild the adapted model that a file was saved from; nothing needs to be retyped."""
    saved = read_about(path)
    saved.experiment.cache_dir = cache_dir
    _require_base(path, saved.experiment.model)
    adapted = adapt(saved.experiment, saved.labels)
    load_tensors(path, adapted, saved.sha256)
    return saved, adapted


def _require_base(path: Path, model: Model) -> None:
    """Raise CheckpointError where an adapter names its base model by a folder that is not on this machine."""
    if model.folder and not expanded(model.folder).is_dir():
        raise CheckpointError(
            f"{path} must find its base model in {model.folder}, the folder that it was trained from, got none there; "
            f"put the model there or link it: ln -s PATH {model.folder}"
        )


def intact(path: Path) -> Saved:
    """Return what a file holds beside the tensors; raise CheckpointError if anything in it is damaged."""
    saved = read_about(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _require_saved(path, tensors, saved.sha256)
    return saved


def rewrite(path: Path, to: Path, changed: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Saved:
    """Write the adapter of an intact file with other settings into another file, and return what that one holds."""
    intact(path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["molex"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about["settings"] = changed(about["settings"])
    about.pop(ABOUT_DIGEST, None)
    about[ABOUT_DIGEST] = _about_digest(about)
    write_tensors(to, tensors, {"molex": json.dumps(about)})
    return read_about(to)


def load_tensors(path: Path, adapted: Adapted, sha256: str) -> None:
    """Fill the trained tensors from a file; names and shapes must fit both ways."""
    parameters = adapted.trainable()
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        if names != set(parameters):
            missing, extra = sorted(set(parameters) - names), sorted(names - set(parameters))
            raise CheckpointError(
                f"{path} must hold exactly the trained tensors, got {len(missing)} missing and {len(extra)} unknown: "
                f"{', '.join((missing + extra)[:3])}"
            )
        tensors = {name: file.get_tensor(name) for name in parameters}
        _require_saved(path, tensors, sha256)
        with torch.no_grad():
            for name, parameter in parameters.items():
                tensor = tensors[name]
                if tensor.shape != parameter.shape:
                    raise CheckpointError(f"{path}: {name} must be {list(parameter.shape)}, got {list(tensor.shape)}")
                parameter.copy_(tensor)


def reload_check(
    path: Path,
    adapted: Adapted,
    objective: Objective,
    encoded: Encoded,
    batch_size: int,
    place: Callable[[Adapted], None],
    cache_dir: str | None = None,
) -> dict[str, Any]:
    """Return whether the adapter on disk gives the logits (or likelihoods) that the trained model gives.

    `place` puts another model on the same device in the same formats as this one.
    """
    device = next(iter(adapted.trainable().values())).device
    few = encoded.first(2 * batch_size)
    expected = objective.values(adapted, few, batch_size, device)
    total = sum(p.numel() for p in adapted.model.parameters())
    in_place = total > BIG_MODEL_PARAMETERS
    if in_place:
        with torch.no_grad():
            for trained in adapted.trainable().values():
                trained.zero_()
        load_tensors(path, adapted, read_about(path).sha256)
        fresh = adapted
    else:
        _, fresh = load(path, cache_dir)
        place(fresh)
    difference = float((objective.values(fresh, few, batch_size, device) - expected).abs().max())
    return {"passed": difference <= 1e-5, "max_difference": difference, "rows": len(few.ids), "in_place": in_place}


def _require_saved(path: Path, tensors: dict[str, torch.Tensor], sha256: str) -> None:
    if _digest(tensors) != sha256:
        raise CheckpointError(f"{path} must hold the tensors that were saved, got other bytes; it is damaged")


def _about_digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
