"""Predictions and scores of a split, and the generator that adds them to a training's events."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molex_cli.errors import TrainingError
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import METRICS
from molex_cli.objectives.base import Predictions
from molex_cli.records import correctness
from molex_cli.records.parts import Score, Scores
from molex_cli.tracking.events import Evaluated, Event, Step
from molex_cli.training.stage import Stage

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class ScoredPredictions:
    """A model's predictions of a split after a step, and their scores."""

    step: int
    epoch: float
    predictions: Predictions

    def summary(self) -> Score:
        """Return what the record keeps of it."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "loss": self.predictions.loss,
            "scores": self.predictions.scores,
        }

    def with_correctness(self) -> Score:
        """Return the same and which predictions are right, where a prediction is right or wrong."""
        packed = correctness(self.predictions.rows)
        return self.summary() if packed is None else {**self.summary(), "correctness": packed}


class Scoring:
    """Scores the validation split during training and remembers the last and the best predictions."""

    selection = "the best is the {end} {metric} on validation, the split that is reported; the first of equals"

    def __init__(self, adapted: Adapted, stage: Stage, accelerator: "Accelerator") -> None:
        self.adapted, self.objective = adapted, stage.objective
        self.encoded, self.names = stage.encoded["validation"], list(stage.experiment.task.metrics)
        self.settings, self.schedule, self.device = stage.experiment.train, stage.schedule, accelerator.device
        self.first: ScoredPredictions | None = None
        """Before the first step, if that was scored."""
        self.last: ScoredPredictions | None = None
        self.best: ScoredPredictions | None = None
        self.routing: dict[str, dict[str, Any]] = {}

    def after_each(self, steps: Iterator[Step]) -> Iterator[Event]:
        """Pass on each step, and an `Evaluated` after those where it is due."""
        if self.settings.evaluate_at_start and self.last is None:
            yield self.evaluated(0, 0.0)
        for step in steps:
            yield step
            if self.schedule.evaluates_after(step.step):
                yield self.evaluated(step.step, step.epoch)

    def as_state(self) -> dict[str, Any]:
        """Return all scores so far, without the predictions."""
        evaluations = {name: getattr(self, name) for name in ("first", "last", "best")}
        return {
            "routing": self.routing,
            **{
                name: {**each.summary(), "reasons": list(each.predictions.unanswered)}
                for name, each in evaluations.items()
                if each
            },
        }

    def restore(self, state: dict[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> None:
        """Take back those scores, with the predictions of `last` and `best`."""
        self.routing = state["routing"]
        for name in {"first", "last", "best"} & set(state):
            kept = state[name]
            predictions = Predictions(rows.get(name, []), kept["scores"], kept["loss"], tuple(kept["reasons"]))
            setattr(self, name, ScoredPredictions(kept["step"], kept["epoch"], predictions))

    def evaluated(self, step: int, epoch: float) -> Evaluated:
        """Score the split now; what was scored before the first step is no candidate for the best."""
        started = time.perf_counter()
        during = self.adapted.take_routing()
        predictions = self.objective.predictions(
            self.adapted, self.encoded, self.names, self.settings.eval_batch_size, self.device
        )
        self.last = ScoredPredictions(step, epoch, predictions)
        if not math.isfinite(predictions.loss):
            way_out = "lower train.learning_rate"
            raise TrainingError(f"validation loss must be finite, got {predictions.loss} at step {step}; {way_out}")
        self.routing = self.adapted.take_routing()
        chosen = METRICS[self.names[0]]
        before = self.best.predictions.scores[chosen.name] if self.best else None
        is_best = step > 0 and (self.best is None or chosen.better(predictions.scores[chosen.name], before))
        if step == 0:
            self.first = self.last
        if is_best:
            self.best = self.last
        return Evaluated(
            step=step,
            epoch=epoch,
            split="validation",
            loss=predictions.loss,
            scores=predictions.scores,
            seconds=time.perf_counter() - started,
            best=is_best,
            routing=self.routing,
            training_routing=during if step > 0 else {},
            rows=predictions.rows,
        )

    def summary(self, constant: dict[str, float]) -> Scores:
        """Return the record's scores."""
        assert self.last is not None
        assert self.best is not None
        first: Scores = {"first": self.first.summary()} if self.first else {}
        return {
            "metric": self.names[0],
            **first,
            "last": self.last.with_correctness(),
            "best": self.best.with_correctness(),
            "selection": self.selection.format(
                end="highest" if METRICS[self.names[0]].higher_is_better else "lowest", metric=self.names[0]
            ),
            "constant": constant,
        }

    def degenerate(self) -> list[str]:
        """Return why the last scores are degenerate."""
        assert self.last is not None
        return self.last.predictions.degenerate()
