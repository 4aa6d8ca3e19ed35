"""Predictions and scores of a split, and the generator that adds them to a training's events."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from molex_cli import metrics
from molex_cli.data.batches import collate, parts, scoring_order
from molex_cli.data.encoding import Encoded
from molex_cli.errors import TrainingError
from molex_cli.events import Evaluated, Event, Step
from molex_cli.methods.base import Adapted
from molex_cli.training import Timetable

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Outcome:
    """What a model said of a split, and how well."""

    step: int
    epoch: float
    loss: float
    scores: dict[str, float]
    predictions: list[Any]
    """Class indices, or numbers."""
    logits: list[list[float]]

    def summary(self) -> dict[str, Any]:
        """Return what the record keeps of it."""
        return {"step": self.step, "epoch": self.epoch, "loss": self.loss, "scores": self.scores}

    def rows(self, encoded: Encoded, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Return one line for each example: id, label, prediction, logits."""

        def shown(value: Any) -> Any:
            return labels[value] if labels else value

        return [
            {"id": key, "label": shown(label), "prediction": shown(said), "logits": logits}
            for key, label, said, logits in zip(encoded.ids, encoded.labels, self.predictions, self.logits, strict=True)
        ]


@torch.no_grad()
def logits_of(adapted: Adapted, encoded: Encoded, batch_size: int, device: torch.device) -> torch.Tensor:
    """Return the logits of every row, in the split's order: [rows, labels], float32 on the CPU."""
    adapted.model.eval()
    rows: list[int] = []
    found: list[torch.Tensor] = []
    in_order = range(len(encoded.ids))
    batches = parts(in_order, batch_size) if adapted.batch_dependent else scoring_order(encoded.lengths, batch_size)
    for part in batches:
        batch = collate(encoded, part, adapted.backbone.tokenizer.pad_token_id, adapted.pad_to)
        batch.pop("labels")
        output = adapted.model(**{name: tensor.to(device) for name, tensor in batch.items()})
        rows += part
        found.append(output.logits.float().cpu())
    order = torch.tensor(rows).argsort()
    return torch.cat(found)[order]


def classify(
    adapted: Adapted, encoded: Encoded, names: Sequence[str], *, batch_size: int, at: Step, device: torch.device
) -> Outcome:
    """Score a split with the named metrics."""
    logits = logits_of(adapted, encoded, batch_size, device)
    regresses = logits.shape[1] == 1
    predictions = logits[:, 0].tolist() if regresses else logits.argmax(dim=-1).tolist()
    references = torch.tensor(encoded.labels)
    loss = functional.mse_loss(logits[:, 0], references) if regresses else functional.cross_entropy(logits, references)
    return Outcome(
        step=at.step,
        epoch=at.epoch,
        loss=float(loss),
        scores=metrics.scores(names, predictions, encoded.labels),
        predictions=predictions,
        logits=[[round(value, 6) for value in row] for row in logits.tolist()],
    )


class Scoring:
    """Scores the validation split as training goes on and remembers the last and the best outcome."""

    selection = "the best is the highest {metric} on validation, the split that is reported; the first of equals"

    def __init__(
        self,
        adapted: Adapted,
        encoded: Encoded,
        names: Sequence[str],
        *,
        batch_size: int,
        accelerator: "Accelerator",
    ) -> None:
        self.adapted, self.encoded, self.names = adapted, encoded, list(names)
        self.batch_size, self.device = batch_size, accelerator.device
        self.last: Outcome | None = None
        self.best: Outcome | None = None
        self.routing: dict[str, dict[str, Any]] = {}

    def after_each(self, steps: Iterator[Step], timetable: Timetable, every: int | None) -> Iterator[Event]:
        """Pass on each step, and an `Evaluated` after every so many, each epoch, and the last."""
        for step in steps:
            yield step
            if step.step % (every or timetable.steps_per_epoch) == 0 or step.step == timetable.total_steps:
                yield self.evaluated(step)

    def evaluated(self, at: Step) -> Evaluated:
        """Score the split now."""
        started = time.perf_counter()
        self.adapted.take_routing()
        self.last = classify(
            self.adapted, self.encoded, self.names, batch_size=self.batch_size, at=at, device=self.device
        )
        if not math.isfinite(self.last.loss):
            way_out = "lower train.learning_rate"
            raise TrainingError(f"validation loss must be finite, got {self.last.loss} at step {at.step}; {way_out}")
        self.routing = self.adapted.take_routing()
        chosen = metrics.METRICS[self.names[0]]
        is_best = self.best is None or chosen.better(self.last.scores[chosen.name], self.best.scores[chosen.name])
        if is_best:
            self.best = self.last
        return Evaluated(
            step=at.step,
            epoch=at.epoch,
            split="validation",
            loss=self.last.loss,
            scores=self.last.scores,
            seconds=time.perf_counter() - started,
            best=is_best,
            routing=self.routing,
        )

    def summary(self, majority: dict[str, float]) -> dict[str, Any]:
        """Return the record's scores."""
        assert self.last is not None
        assert self.best is not None
        return {
            "metric": self.names[0],
            "last": self.last.summary(),
            "best": self.best.summary(),
            "selection": self.selection.format(metric=self.names[0]),
            "majority": majority,
        }

    def degenerate(self) -> list[str]:
        """Return the reasons not to trust the last outcome."""
        assert self.last is not None
        reasons = [f"{name} is undefined" for name, value in self.last.scores.items() if math.isnan(value)]
        if len(set(self.last.predictions)) == 1 and len(self.last.predictions) > 1:
            reasons.append("all predictions are the same")
        return reasons
