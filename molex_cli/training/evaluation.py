"""Predictions and scores of a split, and the generator that adds them to a training's events."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molex_cli.config.schema import Train
from molex_cli.data.encoding import Encoded
from molex_cli.errors import TrainingError
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import METRICS
from molex_cli.objectives.base import Objective, Predictions
from molex_cli.records import correctness
from molex_cli.tracking.events import Evaluated, Event, Step
from molex_cli.training.loop import Schedule

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class ScoredPredictions:
    """What a model said of a split after a step, and how well."""

    step: int
    epoch: float
    predictions: Predictions

    def summary(self) -> dict[str, Any]:
        """Return what the record keeps of it."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "loss": self.predictions.loss,
            "scores": self.predictions.scores,
        }

    def with_correctness(self) -> dict[str, Any]:
        """Return the same with which predictions are right, where a prediction is right or wrong."""
        found = correctness(self.predictions.rows)
        return self.summary() | ({} if found is None else {"correctness": found})


class Scoring:
    """Scores the validation split during training and remembers the last and the best predictions."""

    selection = "the best is the {end} {metric} on validation, the split that is reported; the first of equals"

    def __init__(
        self,
        adapted: Adapted,
        objective: Objective,
        encoded: Encoded,
        names: Sequence[str],
        *,
        settings: Train,
        schedule: Schedule,
        accelerator: "Accelerator",
    ) -> None:
        self.adapted, self.objective, self.encoded, self.names = adapted, objective, encoded, list(names)
        self.batch_size, self.device = settings.eval_batch_size, accelerator.device
        self.first: ScoredPredictions | None = None
        """Before the first step, if that was scored."""
        self.last: ScoredPredictions | None = None
        self.best: ScoredPredictions | None = None
        self.routing: dict[str, dict[str, Any]] = {}
        self.schedule, self.settings = schedule, settings

    def is_due(self, step: int) -> bool:
        """Return whether the split is scored after this step: after every so many, each epoch, and the last."""
        if step == 0:
            return self.settings.evaluate_at_start
        every = self.settings.evaluate_every or self.schedule.steps_per_epoch
        return step % every == 0 or step == self.schedule.total_steps

    def after_each(self, steps: Iterator[Step]) -> Iterator[Event]:
        """Pass on each step, and an `Evaluated` after those where it is due."""
        if self.is_due(0) and self.last is None:
            yield self.evaluated(0, 0.0)
        for step in steps:
            yield step
            if self.is_due(step.step):
                yield self.evaluated(step.step, step.epoch)

    def as_state(self) -> dict[str, Any]:
        """Return what was found so far, without the predictions."""
        found = {name: getattr(self, name) for name in ("first", "last", "best")}
        return {
            "routing": self.routing,
            **{name: {**o.summary(), "reasons": list(o.predictions.reasons)} for name, o in found.items() if o},
        }

    def restore(self, state: dict[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> None:
        """Take back what was found, with the predictions of `last` and `best`."""
        self.routing = state["routing"]
        for name in {"first", "last", "best"} & set(state):
            kept = state[name]
            answers = Predictions(rows.get(name, []), kept["scores"], kept["loss"], tuple(kept["reasons"]))
            setattr(self, name, ScoredPredictions(kept["step"], kept["epoch"], answers))

    def evaluated(self, step: int, epoch: float) -> Evaluated:
        """Score the split now; what was scored before the first step is no candidate for the best."""
        started = time.perf_counter()
        during = self.adapted.take_routing()
        answers = self.objective.predictions(self.adapted, self.encoded, self.names, self.batch_size, self.device)
        self.last = ScoredPredictions(step, epoch, answers)
        if not math.isfinite(answers.loss):
            way_out = "lower train.learning_rate"
            raise TrainingError(f"validation loss must be finite, got {answers.loss} at step {step}; {way_out}")
        self.routing = self.adapted.take_routing()
        chosen = METRICS[self.names[0]]
        before = self.best.predictions.scores[chosen.name] if self.best else None
        is_best = step > 0 and (self.best is None or chosen.better(answers.scores[chosen.name], before))
        if step == 0:
            self.first = self.last
        if is_best:
            self.best = self.last
        return Evaluated(
            step=step,
            epoch=epoch,
            split="validation",
            loss=answers.loss,
            scores=answers.scores,
            seconds=time.perf_counter() - started,
            best=is_best,
            routing=self.routing,
            training_routing=during if step > 0 else {},
        )

    def summary(self, majority: dict[str, float]) -> dict[str, Any]:
        """Return the record's scores."""
        assert self.last is not None
        assert self.best is not None
        return {
            "metric": self.names[0],
            **({"first": self.first.summary()} if self.first else {}),
            "last": self.last.with_correctness(),
            "best": self.best.with_correctness(),
            "selection": self.selection.format(
                end="highest" if METRICS[self.names[0]].higher_is_better else "lowest", metric=self.names[0]
            ),
            "majority": majority,
        }

    def degenerate(self) -> list[str]:
        """Return the reasons not to trust the last outcome."""
        assert self.last is not None
        return self.last.predictions.doubts()
