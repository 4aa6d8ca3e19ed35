"""One task, ready to be learned and scored; a run learns one, or several in turn."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.config.schema import Experiment
from molex_cli.data.encoding import Encoded
from molex_cli.data.reading import Split
from molex_cli.methods.base import Adapted
from molex_cli.models.structure import Backbone
from molex_cli.objectives import Objective, build_objective, outside
from molex_cli.objectives.splits import about, encoded_splits, notes
from molex_cli.records import Record
from molex_cli.tracking.events import Noted, Started, Step
from molex_cli.tracking.sinks import Sinks
from molex_cli.training.loop import Schedule, Training, steps

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Stage:
    """A task with its rows as tokens and the steps that learn it."""

    name: str
    """Empty where a run has no stages."""
    experiment: Experiment
    """The run's, with this stage's task."""
    labels: list[str]
    objective: Objective
    encoded: dict[str, Encoded]
    schedule: Schedule
    data: dict[str, Any]
    """What the record keeps of each split."""

    @classmethod
    def of(
        cls, name: str, experiment: Experiment, backbone: Backbone, splits: dict[str, Split], labels: Sequence[str]
    ) -> "Stage":
        """Encode the splits of an experiment's task for its model, of which no weights are needed."""
        objective = build_objective(experiment.task, experiment.model, labels, experiment.train.label_smoothing)
        encoded = encoded_splits(experiment, backbone, objective, splits)
        outside.require_working(experiment.task, encoded["validation"].labels)
        schedule = Schedule.of(experiment.train, len(encoded["train"].ids))
        prefix = f"{name}/" if name else ""
        data = {f"{prefix}{split}": about(rows, encoded[split]) for split, rows in splits.items()}
        return cls(name, experiment, list(labels), objective, encoded, schedule, data)

    def steps(self, training: Training, accelerator: "Accelerator") -> Iterator[Step]:
        """Train on the stage's rows and yield each step."""
        settings, seed = self.experiment.train, self.experiment.seed
        return steps(training, self.objective, self.encoded["train"], settings, seed=seed, accelerator=accelerator)

    def baseline(self, names: Sequence[str]) -> dict[str, float]:
        """Return the best scores on the scored split that the same answer to every row reaches."""
        return outside.baseline(self.objective, self.encoded["validation"], self.experiment.task, names)

    def unreached(self) -> Iterator[str]:
        """Yield, in words, which steps that are asked for the training ends before."""
        settings, total = self.experiment.train, self.schedule.total_steps
        where = f" on {self.name}" if self.name else ""
        if settings.max_steps is not None and settings.max_steps > total:
            enough = math.ceil(settings.max_steps / self.schedule.steps_per_epoch)
            yield (
                f"train.max_steps={settings.max_steps} is beyond the {total} steps of train.epochs={settings.epochs:g}"
                f"{where}; train.epochs={enough} would reach it"
            )
        if settings.warmup(total) >= total > 1:
            yield (
                f"train.warmup_steps={settings.warmup_steps} is beyond the last of {total} steps{where}: the learning "
                "rate never reaches its peak"
            )

    def tokens(self) -> int:
        """Return the tokens of all steps."""
        lengths = self.encoded["train"].lengths
        return sum(lengths[row] for rows in self.schedule.batches(lengths, self.experiment.seed) for row in rows)


def started(
    record: Record, folder: Path, stages: Sequence[Stage], first_step: int, constant: dict[str, float]
) -> Started:
    """Return the event of a training that begins."""
    return Started(
        name=record.name,
        variant=record.variant,
        seed=record.seed,
        folder=str(folder),
        total_steps=sum(stage.schedule.total_steps for stage in stages),
        total_tokens=sum(stage.tokens() for stage in stages),
        parameters=record.parameters,
        experts_per_layer=record.experts_per_layer,
        rank_per_layer=record.rank_per_layer,
        constant=constant,
        positive=stages[0].experiment.task.positive_label(stages[0].labels),
        flops_per_token=record.flops_per_token,
        data=record.data,
        settings=record.settings,
        first_step=first_step,
    )


def tell(sinks: Sinks, adapted: Adapted, data: dict[str, Any]) -> None:
    """Note what was left out: rows that are too long, or the head that the model came with."""
    for message in (*filter(None, [adapted.backbone.note]), *notes(data)):
        sinks.write(Noted(message=message))
