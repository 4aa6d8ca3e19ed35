"""What a record keeps of a training: how it was scored, sums over the steps, collapsed routers, failed checks."""

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.checkpoints import adapter
from molex_cli.config import schema
from molex_cli.errors import TrainingError
from molex_cli.methods.base import Adapted
from molex_cli.methods.placement import place
from molex_cli.objectives.splits import how_scored
from molex_cli.records import Record
from molex_cli.records.parts import Evaluation, Training
from molex_cli.runtime import distributed
from molex_cli.tracking.events import Evaluated, Event, Noted, Step
from molex_cli.tracking.sinks import Sinks
from molex_cli.training.loop import Schedule
from molex_cli.training.stage import Stage

if TYPE_CHECKING:
    from accelerate import Accelerator


def evaluation(stage: Stage, adapted: Adapted, sinks: Sinks) -> Evaluation:
    """Return how the run is scored, and note what its scores depend on or lack."""
    batch_size = stage.experiment.train.eval_batch_size
    scoring = how_scored(stage.experiment.task, stage.labels, adapted, stage.objective, batch_size)
    for reason in scoring["not_computed"].values():
        sinks.write(Noted(message=reason))
    if adapted.batch_dependent:
        sinks.write(Noted(message=f"scores depend on the evaluation batch of {batch_size}: {adapted.batch_dependent}"))
        if distributed.world_size() > 1:
            sinks.write(
                Noted(message=f"training depends on how rows fall to the {distributed.world_size()} processes, too")
            )
    return scoring


class Summary:
    """Adds up losses, tokens and seconds of the steps, for the record."""

    def __init__(self, schedule: Schedule, experiment: schema.Experiment) -> None:
        self._schedule, self._learning_rate = schedule, experiment.learning_rate
        self._losses: list[float] = []
        self._tokens: list[int] = []
        self._seconds: list[float] = []
        self._began, self._before = time.perf_counter(), 0.0
        self._notes: list[str] = []

    def note_unreached(self, stages: Sequence[Stage], sinks: Sinks) -> None:
        """Tell which steps that are asked for the training ends before."""
        self._notes = [note for stage in stages for note in stage.unreached()]
        for note in self._notes:
            sinks.write(Noted(message=note))

    def pass_on(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass on each event and add it up."""
        for event in events:
            if isinstance(event, Step):
                self._losses.append(event.loss)
                self._tokens.append(event.tokens)
                self._seconds.append(event.seconds)
            yield event

    def as_state(self) -> dict[str, Any]:
        """Return what was added up so far."""
        return {
            "losses": self._losses,
            "tokens": self._tokens,
            "seconds": self._seconds,
            "wall": self._wall(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what was added up before."""
        self._losses, self._tokens, self._seconds = (list(state[name]) for name in ("losses", "tokens", "seconds"))
        self._before = state["wall"]

    @property
    def mean_loss(self) -> float:
        """Return the mean over the steps."""
        return sum(self._losses) / len(self._losses)

    def as_data(self) -> Training:
        """Return the sums, means and rates."""
        tokens, step_seconds = sum(self._tokens), sum(self._seconds)
        tenth = max(1, len(self._losses) // 10)
        notes: Training = {"notes": self._notes} if self._notes else {}
        return {
            "steps": len(self._losses),
            "effective_batch": self._schedule.effective_batch,
            "processes": distributed.world_size(),
            "learning_rate": self._learning_rate,
            "tokens": tokens,
            "seconds": self._wall(),
            "step_seconds": step_seconds,
            "tokens_per_second": tokens / step_seconds,
            "first_loss": sum(self._losses[:tenth]) / tenth,
            "last_loss": sum(self._losses[-tenth:]) / tenth,
            "mean_loss": self.mean_loss,
            **notes,
        }

    def _wall(self) -> float:
        return self._before + time.perf_counter() - self._began


class CollapseAlarm:
    """Notes at an evaluation that routers use few of their experts."""

    def __init__(self, settings: schema.Collapse) -> None:
        self._settings = settings
        self._found = ""

    @property
    def degenerate(self) -> list[str]:
        """Return why the run is marked, by its last evaluation."""
        return [self._found] if self._found and self._settings.action is not schema.Alarm.warn else []

    def degenerate_in(self, routings: Mapping[str, dict[str, dict[str, Any]]]) -> list[str]:
        """Return the same for the last evaluation of several stages, by the stage's name."""
        if self._settings.action is schema.Alarm.warn:
            return []
        collapses = {stage: collapsed(routing, self._settings.below) for stage, routing in routings.items()}
        return [f"{collapse} in {stage}" for stage, collapse in collapses.items() if collapse]

    def pass_on(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass on each event and a note after an evaluation that found a collapse; raise if the run is to stop."""
        for event in events:
            yield event
            if isinstance(event, Evaluated) and event.is_whole and (note := self.look(event.routing)):
                yield note

    def look(self, routing: dict[str, dict[str, Any]]) -> Noted | None:
        """Return a note if routers are newly found to have collapsed; raise if the run is to stop."""
        before, self._found = self._found, collapsed(routing, self._settings.below)
        if self._found and self._settings.action is schema.Alarm.stop:
            raise TrainingError(f"{self._found}; raise method.balance, or set collapse.action=mark")
        return Noted(message=self._found) if self._found and not before else None


def collapsed(routing: dict[str, dict[str, Any]], below: float) -> str:
    """Return which layers' routers leave most experts out, in words; empty where none do.

    A layer is judged by the mean utilisation of its routers. Where each token takes all experts nothing can collapse.
    """
    few = [
        f"{statistics['effective']:.1f} of {len(statistics['usage'])} in layer {layer}"
        for layer, statistics in routing.items()
        if statistics.get("utilisation") is not None and statistics["utilisation"] < below
    ]
    return f"routers collapsed onto few experts: {', '.join(few)}" if few else ""


def checked(
    stage: Stage, adapted: Adapted, losses: Sequence[float], folder: Path, accelerator: "Accelerator"
) -> dict[str, Any]:
    """Return whether the adapter on disk predicts what the trained model does, and whether all losses are finite."""
    hardware = dataclasses.replace(stage.experiment.hardware, shard=False)
    reload = adapter.reload_check(
        folder / "adapter-last.safetensors",
        adapted,
        stage.objective,
        stage.encoded["validation"],
        stage.experiment.train.eval_batch_size,
        lambda fresh: place(fresh, hardware, accelerator),
        stage.experiment.cache_dir,
    )
    return {"reload": reload, "finite": {"passed": all(map(math.isfinite, losses))}}


def failed_checks(checks: dict[str, Any]) -> list[str]:
    """Return which checks failed, in words."""
    failed = []
    if checks["gradient_flow"]["passed"] is False:
        dead = checks["gradient_flow"]["without_gradient"]
        failed.append(f"{len(dead)} trainable tensors got no gradient: {', '.join(dead[:3])}")
    if not checks["reload"]["passed"]:
        failed.append(f"the saved adapter scores differently ({json.dumps(checks['reload']['max_difference'])})")
    return failed


def mark(record: Record, degenerate: Sequence[str], sinks: Sinks) -> None:
    """Mark a record as degenerate for these reasons and its failed checks, and note each."""
    record.degenerate = [*degenerate, *failed_checks(record.checks)]
    for reason in record.degenerate:
        sinks.write(Noted(message=f"this run is marked degenerate: {reason}"))
