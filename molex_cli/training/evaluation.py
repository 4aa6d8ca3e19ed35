"""Predictions and scores of a split, and the generator that adds them to a training's events."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from molex_cli.config.task_metrics import metric_of
from molex_cli.errors import DivergedError
from molex_cli.methods.base import Adapted
from molex_cli.objectives import outside
from molex_cli.objectives.base import Predictions
from molex_cli.records import correctness
from molex_cli.records.parts import SELECTION, Score, Scores
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
    selection: dict[str, float] = field(default_factory=dict)
    """Scores on the rows that choose the best, where these are not the split itself."""

    def summary(self) -> Score:
        """Return what the record keeps of it."""
        found: Score = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": self.predictions.loss,
            "scores": self.predictions.scores,
        }
        if self.selection:
            found["selection"] = self.selection
        return found

    def with_correctness(self) -> Score:
        """Return the same and which predictions are right, where a prediction is right or wrong."""
        packed = correctness(self.predictions.rows)
        return self.summary() if packed is None else {**self.summary(), "correctness": packed}


class Scoring:
    """Scores the model during training and remembers the last and the best predictions of the validation split.

    Where rows are set apart to choose the best, each evaluation scores these, and validation is scored for the last and
    for what is the best so far alone.
    """

    def __init__(self, adapted: Adapted, stage: Stage, accelerator: "Accelerator") -> None:
        self.adapted, self.objective = adapted, stage.objective
        self.encoded, self.task = stage.encoded, stage.experiment.task
        self.metric = metric_of(self.task, self.task.metrics[0])
        self.chosen_on = SELECTION if SELECTION in self.encoded else "validation"
        self.settings, self.schedule, self.device = stage.experiment.train, stage.schedule, accelerator.device
        self.first: ScoredPredictions | None = None
        """Before the first step, if that was scored."""
        self.last: ScoredPredictions | None = None
        self.best: ScoredPredictions | None = None
        self.routing: dict[str, dict[str, Any]] = {}

    def after_each(self, steps: Iterator[Step]) -> Iterator[Event]:
        """Pass on each step, and an `Evaluated` after those where it is due."""
        if self.settings.evaluate_at_start and self.last is None:
            yield from self.evaluated(0, 0.0)
        for step in steps:
            yield step
            if self.schedule.evaluates_after(step.step):
                yield from self.evaluated(step.step, step.epoch)

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
            scored = ScoredPredictions(kept["step"], kept["epoch"], predictions, kept.get("selection", {}))
            setattr(self, name, scored)

    def evaluated(self, step: int, epoch: float) -> Iterator[Evaluated]:
        """Score now, and yield what came of it, the split that chooses the best last, with the routing on it.

        What is scored before the first step is no candidate.
        """
        during, started = self.adapted.take_routing(), time.perf_counter()
        chosen = self._predictions(self.chosen_on, step)
        self.routing = self.adapted.take_routing()
        is_best = step > 0 and self._is_best(chosen)
        seconds = time.perf_counter() - started
        told = partial(Evaluated, step=step, epoch=epoch, best=is_best)
        whole = partial(told, routing=self.routing, training_routing=during if step else {})
        if self.chosen_on == "validation":
            self._remember(ScoredPredictions(step, epoch, chosen), is_best)
            yield whole(split="validation", loss=chosen.loss, scores=chosen.scores, seconds=seconds, rows=chosen.rows)
            return
        if is_best or step in (0, self.schedule.total_steps):
            started = time.perf_counter()
            reported = self._predictions("validation", step)
            self.adapted.take_routing()
            self._remember(ScoredPredictions(step, epoch, reported, chosen.scores), is_best)
            took = time.perf_counter() - started
            yield told(
                split="validation",
                loss=reported.loss,
                scores=reported.scores,
                seconds=took,
                rows=reported.rows,
                is_whole=False,
            )
        yield whole(split=self.chosen_on, loss=chosen.loss, scores=chosen.scores, seconds=seconds)

    def _predictions(self, split: str, step: int) -> Predictions:
        size = self.settings.eval_batch_size
        found = outside.predictions(self.objective, self.adapted, self.encoded[split], self.task, size, self.device)
        if not math.isfinite(found.loss):
            way_out = "lower train.learning_rate"
            raise DivergedError(f"{split} loss must be finite, got {found.loss} at step {step}; {way_out}")
        return found

    def _is_best(self, found: Predictions) -> bool:
        """Return whether no earlier evaluation chose as well."""
        if self.best is None:
            return True
        name = self.metric.name
        before = self.best.selection or self.best.predictions.scores
        return self.metric.better(found.scores[name], before[name])

    def _remember(self, scored: ScoredPredictions, is_best: bool) -> None:
        self.last = scored
        if scored.step == 0:
            self.first = scored
        if is_best:
            self.best = scored

    def summary(self, constant: dict[str, float]) -> Scores:
        """Return the record's scores."""
        assert self.last is not None
        assert self.best is not None
        first: Scores = {"first": self.first.summary()} if self.first else {}
        return {
            "metric": self.metric.name,
            **first,
            "last": self.last.with_correctness(),
            "best": self.best.with_correctness(),
            "selection": self._rule(),
            "evaluations": sum(map(self.schedule.evaluates_after, range(1, self.last.step + 1))),
            "constant": constant,
        }

    def _rule(self) -> str:
        """Return how the best evaluation was chosen, in words."""
        end = "highest" if self.metric.higher_is_better else "lowest"
        rows = (
            f"{len(self.encoded[SELECTION].ids):,} training rows that were set apart for it"
            if self.chosen_on == SELECTION
            else "validation, the split that is reported"
        )
        return f"the best is the {end} {self.metric.name} on {rows}; the first of equals"

    def degenerate(self) -> list[str]:
        """Return why the last scores are degenerate."""
        assert self.last is not None
        return self.last.predictions.degenerate()
