"""What a run writes before its end: adapters and predictions at each evaluation, and the state it resumes from.

The state is a safetensors file of the trained tensors and the optimizer's moments, with all else as JSON
beside them. Random streams and the next rows follow from the seed and the step, so they are not stored.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.config import schema
from molex_cli.errors import CheckpointError
from molex_cli.records.renamed import routing_of_today, settings_of_today, without_added
from molex_cli.runtime import distributed
from molex_cli.tracking.events import Evaluated, Event, Step
from molex_cli.training.loop import Schedule, Training

NAME = "progress.safetensors"  # of the file; runs of before have it under this name
FORMAT = 1
SECONDS = 300.0  # between two states, where train.evaluate_every or checkpoint_every ask for none earlier
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
FREE_HARDWARE = ("name", "threads", "devices", "jobs_per_device")  # a run may resume without them


@dataclass
class TrainingState:
    """A run's state at a step."""

    step: int
    about: dict[str, Any]


class Resumable(Protocol):
    """What a resumed run takes up where it was."""

    def as_state(self) -> dict[str, Any]:
        """Return what to store, as plain data."""


@dataclass
class CheckpointWriter:
    """Writes what a run has reached into its folder, as its events arrive."""

    folder: Path
    experiment: schema.Experiment
    labels: list[str]
    training: Training
    schedule: Schedule
    conditions: dict[str, Any]
    """What must be the same when the run resumes."""
    resumable: Mapping[str, Resumable]
    """What else the state holds, by its key there."""
    saved_at: float = field(default_factory=time.monotonic)

    def pass_on(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass on each event, and write what it brought."""
        for event in events:
            if distributed.rank() == 0:
                self._keep(event)
            yield event

    def _keep(self, event: Event) -> None:
        if isinstance(event, Evaluated):
            self._keep_evaluation(event)
        if (isinstance(event, Evaluated) and event.is_whole) or (isinstance(event, Step) and self._is_due(event.step)):
            self._save()

    def _keep_evaluation(self, event: Evaluated) -> None:
        for which in ("last", "best") if event.best else ("last",):
            if event.is_whole:
                path = self.folder / f"adapter-{which}.safetensors"
                adapter.save(path, self.training.adapted, self.experiment, self.labels, event.step)
            if event.rows:
                records.write_rows(self.folder / f"predictions-{which}.jsonl", event.rows)

    def _is_due(self, step: int) -> bool:
        if self.schedule.evaluates_after(step):  # the evaluation comes next, and the state after it
            return False
        every = self.experiment.checkpoint_every
        return step % every == 0 if every else time.monotonic() - self.saved_at > SECONDS

    def _save(self) -> None:
        states = {name: each.as_state() for name, each in self.resumable.items()}
        save(self.folder, self.training, {**self.conditions, **states})
        self.saved_at = time.monotonic()


def save(folder: Path, training: Training, about: Mapping[str, Any]) -> None:
    """Write the state of a training; of two states only the last stays."""
    parameters = training.adapted.trainable()
    tensors: dict[str, torch.Tensor] = {f"parameter/{name}": p for name, p in parameters.items()}
    for name, parameter in parameters.items():
        moments = training.adam.state.get(parameter, {})
        tensors |= {f"{moment}/{name}": moments[moment] for moment in MOMENTS if moment in moments}
    for layer, router in training.adapted.routers.items():
        if (sums := router.sums()) is not None:
            tensors[f"routing/{layer}"] = sums
    flow = {"waiting": list(training.flow.waiting), "steps": training.flow.steps}
    content = {"format": FORMAT, "step": training.step, "flow": flow, **about}
    adapter.write_tensors(folder / NAME, tensors, {"molex": json.dumps(content)})


def load(folder: Path) -> TrainingState | None:
    """Return the state that a run left, if any."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["molex"])
            if about["format"] != FORMAT:
                raise CheckpointError(f"{path} must be of format {FORMAT}, got {about['format']}; resume=never")
            return TrainingState(about["step"], _of_today(about))
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} must be the state of a run, got a damaged file ({error}); resume=never starts over beside it"
        ) from None


def _of_today(about: dict[str, Any]) -> dict[str, Any]:
    """Return a state's content with the names that settings and statistics have now."""
    about["settings"] = without_added(settings_of_today(about["settings"]))
    about["settings"]["hardware"] = _hardware(about["settings"]["hardware"])
    if "scoring" in about:
        about["scoring"]["routing"] = routing_of_today(about["scoring"]["routing"])
    return about


def restore(folder: Path, training: Training, earlier: TrainingState) -> None:
    """Put a training where the state left it."""
    parameters = training.adapted.trainable()
    with safe_open(folder / NAME, framework="pt") as file, torch.no_grad():
        stored = set(file.keys())
        for name, parameter in parameters.items():
            parameter.copy_(file.get_tensor(f"parameter/{name}"))
            moments = {m: file.get_tensor(f"{m}/{name}") for m in MOMENTS if f"{m}/{name}" in stored}
            if moments:
                training.adam.state[parameter] = {m: tensor.to(parameter.device) for m, tensor in moments.items()}
        for layer, router in training.adapted.routers.items():
            if f"routing/{layer}" in stored:
                router.restore(file.get_tensor(f"routing/{layer}"))
    training.step = earlier.step
    training.flow.steps = earlier.about["flow"]["steps"]
    training.flow.waiting = {name: parameters[name] for name in earlier.about["flow"]["waiting"]}


def conditions(
    experiment: schema.Experiment, environment: Mapping[str, Any], data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what must not change until a run resumes: settings that decide what is computed, versions, data."""
    settings = without_added(schema.as_data(experiment))
    kept = {name: value for name, value in settings.items() if name not in records.HOW_ONLY}
    kept["hardware"] = _hardware(kept["hardware"])
    versions = {name: environment["packages"][name] for name in ("torch", "transformers")}
    same = {"settings": kept, "packages": versions}
    return same if data is None else {**same, "data": {name: about["fingerprint"] for name, about in data.items()}}


def _hardware(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the hardware must stay: how a device was asked for is not part of it, the device is."""
    kept = {name: value for name, value in settings.items() if name not in FREE_HARDWARE}
    if kept.get("device") == "auto":
        kept["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    return kept


def require_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise with the differences if a run would resume under other conditions than it began."""
    old = {key: str(value) for key, value in records.flat({name: before.get(name) for name in now}).items()}
    new = {key: str(value) for key, value in records.flat(now).items()}
    differing = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    changed = [f"{key.removeprefix('settings.')}: {old.get(key)} -> {new.get(key)}" for key in differing]
    if changed:
        raise CheckpointError(
            f"{folder.name} must resume as it began, got {', '.join(changed)}; set that back, or let resume=never "
            "start over beside it"
        )
