"""Training on one task: build, restore, fit, finish."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from molex_cli.checkpoints import adapter
from molex_cli.config.schema import Experiment
from molex_cli.data.reading import Rows
from molex_cli.methods.base import Adapted
from molex_cli.methods.ledger import plan_into
from molex_cli.methods.placement import place
from molex_cli.records import Record
from molex_cli.records.parts import LayerUse
from molex_cli.runtime import hardware
from molex_cli.tracking.sinks import Sinks
from molex_cli.training import state
from molex_cli.training.evaluation import Scoring
from molex_cli.training.frozen_prefix import frozen_prefix
from molex_cli.training.loop import Training
from molex_cli.training.stage import Stage, started, tell
from molex_cli.training.state import CheckpointWriter, Resumable, TrainingState
from molex_cli.training.summary import CollapseAlarm, Summary, checked, evaluation, mark

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Run:
    """A run on one task while it is under way."""

    experiment: Experiment
    folder: Path
    record: Record
    accelerator: "Accelerator"
    adapted: Adapted
    labels: list[str]
    stage: Stage
    constant: dict[str, float]
    """The best scores that the same answer to every row reaches."""
    training: Training
    scoring: Scoring
    summary: Summary
    alarm: CollapseAlarm
    conditions: dict[str, Any]
    """What must be the same when the run resumes."""


def prepared(experiment: Experiment, rows: Rows) -> list[Stage]:
    """Return the task as the one stage of the run; raise with all that is wrong with its rows."""
    ((splits, labels),) = rows.values()
    return [Stage.of("", experiment, adapter.reader(experiment, labels), splits, labels)]


def train(
    experiment: Experiment,
    stages: list[Stage],
    folder: Path,
    record: Record,
    sinks: Sinks,
    earlier: TrainingState | None,
) -> None:
    """Train and score the experiment and fill its record."""
    run = _build(experiment, stages[0], folder, record)
    if earlier is not None:
        _restore(run, earlier)
    sinks.write(started(record, folder, [run.stage], run.training.step, run.constant))
    run.summary.note_unreached([run.stage], sinks)
    tell(sinks, run.adapted, record.data)
    record.evaluation = evaluation(run.stage, run.adapted, sinks)
    with frozen_prefix(run.adapted, [run.stage], experiment, run.accelerator, record, sinks):
        _fit(run, sinks, dict(earlier.about.get("files", {})) if earlier else {})
    _finish(run, sinks)


def _build(experiment: Experiment, stage: Stage, folder: Path, record: Record) -> Run:
    """Put the method into the model and the model onto its device."""
    accelerator = hardware.accelerator(experiment.hardware)
    record.environment["hardware"] = hardware.description(experiment.hardware)
    adapted = adapter.adapt(experiment, stage.labels)
    record.data = stage.data
    plan_into(record, adapted, experiment.train.max_length)
    constant = stage.baseline(experiment.task.metrics)
    place(adapted, experiment.hardware, accelerator)
    return Run(
        experiment=experiment,
        folder=folder,
        record=record,
        accelerator=accelerator,
        adapted=adapted,
        labels=stage.labels,
        stage=stage,
        constant=constant,
        training=Training.of(adapted, experiment.train, experiment.learning_rate),
        scoring=Scoring(adapted, stage, accelerator),
        summary=Summary(stage.schedule, experiment),
        alarm=CollapseAlarm(experiment.collapse),
        conditions=state.conditions(experiment, record.environment, record.data),
    )


def _restore(run: Run, earlier: TrainingState) -> None:
    """Put the run where an earlier try left it."""
    state.require_same(run.folder, earlier.about, run.conditions)
    state.restore(run.folder, run.training, earlier)
    run.scoring.restore(earlier.about["scoring"], earlier.rows)
    run.summary.restore(earlier.about["history"])


def _fit(run: Run, sinks: Sinks, files: dict[str, str]) -> None:
    """Train to the end: each step's events pass scoring, summary, alarm, sinks and checkpoint writer, in this order."""
    run.alarm.look(run.scoring.routing)  # of a resumed run: its last evaluation before
    resumable: dict[str, Resumable] = {"scoring": run.scoring, "history": run.summary}
    writer = CheckpointWriter(
        run.folder, run.experiment, run.labels, run.training, run.stage.schedule, run.conditions, resumable, files
    )
    scored = run.scoring.after_each(run.stage.steps(run.training, run.accelerator))
    for _ in writer.pass_on(sinks.pass_on(run.alarm.pass_on(run.summary.pass_on(scored)))):
        pass


def _finish(run: Run, sinks: Sinks) -> None:
    """Check what was trained and fill the record."""
    record, last = run.record, run.scoring.last
    assert last is not None
    record.training = run.summary.as_data()
    record.scores = run.scoring.summary(run.constant)
    record.routing = cast(dict[str, LayerUse], run.scoring.routing)
    record.memory_bytes = hardware.peak_memory_bytes()
    losses = (run.summary.mean_loss, last.predictions.loss)
    found = checked(run.stage, run.adapted, losses, run.folder, run.accelerator)
    record.checks = {"gradient_flow": run.training.flow.report(), **found}
    mark(record, run.scoring.degenerate() + run.alarm.degenerate, sinks)
