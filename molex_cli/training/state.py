"""What a run writes before its end: adapters and predictions at each evaluation, and the state it resumes from.

The state is a safetensors file of the trained tensors and the optimizer's moments, with all else as JSON
beside them. Random streams and the next rows follow from the seed and the step, so they are not stored.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
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
from molex_cli.records.run_folder import adapter_name
from molex_cli.records.tidying import STATE as NAME
from molex_cli.runtime import distributed
from molex_cli.runtime.paths import require_file
from molex_cli.tracking.events import Evaluated, Event, Step
from molex_cli.training.intact import MOMENTS, WAY_OUT, digest, file_digest, predictions, require_plausible
from molex_cli.training.loop import Schedule, Training

FORMAT = 2
WITHOUT_DIGEST = 1  # the format of before, which still opens
SECONDS = 300.0  # between two states, where train.evaluate_every or checkpoint_every ask for none earlier
FREE_HARDWARE = ("name", "threads", "devices", "jobs_per_device")  # a run may resume without them


@dataclass
class TrainingState:
    """A run's state at a step."""

    step: int
    about: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The predictions that will not be made again."""


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
    files: dict[str, str] = field(default_factory=dict)
    """Digests of the predictions that the state goes with."""
    rows: Sequence[Mapping[str, Any]] = ()
    """The predictions of an evaluation that is not whole yet."""
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
        """Write adapters and predictions once all of a step's splits are scored: a crash between finds the old ones."""
        self.rows = event.rows or self.rows
        if not event.is_whole:
            return
        for which in ("last", "best") if event.best else ("last",):
            path = self.folder / adapter_name(which)
            adapter.save(path, self.training.adapted, self.experiment, self.labels, event.step)
            if self.rows:
                rows = self.folder / f"predictions-{which}.jsonl"
                records.write_rows(rows, self.rows)
                self.files[rows.name] = file_digest(rows)
        self.rows = ()

    def _is_due(self, step: int) -> bool:
        if self.schedule.evaluates_after(step):  # the evaluation comes next, and the state after it
            return False
        every = self.experiment.checkpoint_every
        return step % every == 0 if every else time.monotonic() - self.saved_at > SECONDS

    def _save(self) -> None:
        states = {name: each.as_state() for name, each in self.resumable.items()}
        save(self.folder, self.training, {**self.conditions, **states, "files": self.files})
        self.saved_at = time.monotonic()


def save(folder: Path, training: Training, about: Mapping[str, Any]) -> None:
    """Write the state of a training with a digest over all of it; of two states only the last stays."""
    parameters = training.adapted.trainable()
    tensors: dict[str, torch.Tensor] = {f"parameter/{name}": p for name, p in parameters.items()}
    for name, parameter in parameters.items():
        moments = training.adam.state.get(parameter, {})
        tensors |= {f"{moment}/{name}": moments[moment] for moment in MOMENTS if moment in moments}
    for layer, router in training.adapted.routers.items():
        if (sums := router.sums()) is not None:
            tensors[f"routing/{layer}"] = sums
    flow = {"waiting": list(training.flow.waiting), "steps": training.flow.steps}
    text = json.dumps({"format": FORMAT, "step": training.step, "flow": flow, **about})
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    adapter.write_tensors(folder / NAME, stored, {"molex": text, "sha256": digest(stored, text)})


def load(folder: Path, total_steps: int) -> TrainingState | None:
    """Return the state that a run left, if any; raise CheckpointError if it or what it relies on is damaged."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        with safe_open(require_file(path), framework="pt") as file:
            metadata = file.metadata() or {}
            about = json.loads(metadata["molex"])
            _require_format(path, about["format"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != WITHOUT_DIGEST and digest(tensors, metadata["molex"]) != metadata["sha256"]:
            raise ValueError("other bytes than were written")
        require_plausible(tensors, about, total_steps)
        about = _of_today(about)
        return TrainingState(about["step"], about, predictions(folder, about, total_steps))
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} must be the state of a run, got a damaged file ({reason}); {WAY_OUT}") from None


def _require_format(path: Path, found: Any) -> None:
    if found not in (FORMAT, WITHOUT_DIGEST):
        raise CheckpointError(f"{path} must be a state of format {FORMAT} or before, got {found}; {WAY_OUT}")


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
        _require_fitting(folder, file, parameters)
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


def _require_fitting(folder: Path, file: Any, parameters: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError unless a state holds just the tensors that are trained."""
    names = [name for name in file.keys() if name.startswith("parameter/")]  # noqa: SIM118
    found = {name.partition("/")[2]: file.get_slice(name).get_shape() for name in names}
    expected = {name: list(parameter.shape) for name, parameter in parameters.items()}
    if found != expected:
        name = next(name for name in sorted(found | expected) if found.get(name) != expected.get(name))
        raise CheckpointError(
            f"{folder / NAME} must hold what is trained, got {found.get(name, 'nothing')} for {name} of "
            f"{expected.get(name, 'none')}; {WAY_OUT}"
        )


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
