"""Continual learning: stages one after the other, the adapters carried on, every stage's task scored after each.

The optimizer and the learning-rate schedule start anew with every stage (MoLA, appendix C).
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.checkpoints import adapter
from molex_cli.config.schema import Experiment
from molex_cli.config.task import AnswerMode
from molex_cli.config.task_metrics import metric_of
from molex_cli.data.reading import Rows
from molex_cli.errors import ConfigError, TaskError
from molex_cli.methods.base import Adapted
from molex_cli.methods.ledger import plan_into
from molex_cli.methods.placement import place
from molex_cli.metrics.base import scored_class
from molex_cli.metrics.continual import backward_transfer, overall_performance, performance_drop
from molex_cli.models.structure import Backbone
from molex_cli.objectives import Predictions, outside
from molex_cli.objectives.answer_mode import answer_mode
from molex_cli.records import Record, write_rows
from molex_cli.records.parts import Score, Scores
from molex_cli.runtime import distributed, hardware
from molex_cli.tracking.events import Evaluated, Noted
from molex_cli.tracking.sinks import Sinks
from molex_cli.training import state
from molex_cli.training.frozen_prefix import frozen_prefix
from molex_cli.training.gradient_flow import GradientFlow
from molex_cli.training.loop import Training
from molex_cli.training.stage import Stage, started, tell
from molex_cli.training.state import TrainingState
from molex_cli.training.summary import CollapseAlarm, Summary, checked, evaluation, mark

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Sequential:
    """A run through several stages while it is under way."""

    experiment: Experiment
    folder: Path
    record: Record
    sinks: Sinks
    accelerator: "Accelerator"
    adapted: Adapted
    labels: list[str]
    stages: list[Stage]
    flow: GradientFlow
    summary: Summary
    alarm: CollapseAlarm
    conditions: dict[str, Any]
    """What must be the same when the run resumes."""
    step: int = 0
    """Optimizer steps of all stages so far."""
    matrix: list[list[float]] = field(default_factory=list)
    """matrix[k][i] is the score of stage i after learning stage k."""
    predictions: list[Predictions] = field(default_factory=list)
    """Of each stage's validation rows, after the last stage that was learned."""
    routing: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By stage, at the same time."""

    @property
    def metric(self) -> str:
        """Return the first metric, the same for all stages."""
        return self.stages[0].experiment.task.metrics[0]


def train(
    experiment: Experiment,
    stages: list[Stage],
    folder: Path,
    record: Record,
    sinks: Sinks,
    earlier: TrainingState | None,
) -> None:
    """Learn the stages in order and fill the record: the matrix, OP, PD and BWT.

    A run resumes after the last stage that was learned whole.
    """
    run = _build(experiment, stages, folder, record, sinks)
    if earlier is not None:
        _restore(run, earlier)
    sinks.write(started(record, folder, run.stages, run.step, constant={}))
    run.summary.note_unreached(run.stages, sinks)
    tell(sinks, run.adapted, record.data)
    with frozen_prefix(run.adapted, run.stages, experiment, run.accelerator, record, sinks):
        for stage in run.stages[len(run.matrix) :]:
            sinks.write(Noted(message=f"stage {len(run.matrix) + 1} of {len(run.stages)}: {stage.name}"))
            training = _learn(run, stage)
            _score_all(run)
            _save(run, training)
    _finish(run)


def _build(experiment: Experiment, stages: list[Stage], folder: Path, record: Record, sinks: Sinks) -> Sequential:
    """Load the model that learns all stages and put it onto its device."""
    accelerator = hardware.accelerator(experiment.hardware)
    record.environment["hardware"] = hardware.description(experiment.hardware)
    labels = stages[0].labels
    adapted = adapter.adapt(stages[0].experiment, labels)
    record.data = {split: about for stage in stages for split, about in stage.data.items()}
    plan_into(record, adapted, experiment.train.max_length)
    record.evaluation = evaluation(stages[0], adapted, sinks)
    place(adapted, experiment.hardware, accelerator)
    return Sequential(
        experiment=experiment,
        folder=folder,
        record=record,
        sinks=sinks,
        accelerator=accelerator,
        adapted=adapted,
        labels=labels,
        stages=stages,
        flow=GradientFlow.of(adapted),
        summary=Summary(stages[0].schedule, experiment),
        alarm=CollapseAlarm(experiment.collapse),
        conditions=state.conditions(experiment, record.environment, record.data),
    )


def prepared(experiment: Experiment, rows: Rows) -> list[Stage]:
    """Return all stages, which must be of one kind; raise with all that is wrong with their rows."""
    experiments = {name: dataclasses.replace(experiment, task=task) for name, task in experiment.stages.items()}
    first = next(iter(experiments))
    kinds = {name: _kind(each, rows[name][1]) for name, each in experiments.items()}
    for name, kind in kinds.items():
        if kind != kinds[first]:
            raise TaskError(f"stages must be of one kind, got {kinds[first]} in {first} and {kind} in {name}")
    modes = {f"{each.task.kind.name} by {_mode(each).name}" for each in (experiment, experiments[first])}
    if len(modes) > 1:
        raise TaskError(f"task must be answered as its stages are, got {' and '.join(sorted(modes))}")
    return _encoded(experiments, adapter.reader(experiments[first], rows[first][1]), rows)


def _encoded(experiments: dict[str, Experiment], backbone: Backbone, rows: Rows) -> list[Stage]:
    """Return all stages, or raise ConfigError with the problems of all."""
    stages, problems = [], []
    for name, experiment in experiments.items():
        try:
            stages.append(Stage.of(name, experiment, backbone, *rows[name]))
        except ConfigError as error:
            problems += [f"stages.{name}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return stages


def _kind(experiment: Experiment, labels: Sequence[str]) -> str:
    """Return in words what stages must have in common; labels only where a head is trained on them."""
    mode = _mode(experiment)
    scored = scored_class(experiment.task.metrics[0], experiment.task.positive_label(labels))
    shared = f" of {', '.join(labels)}" if labels and mode is AnswerMode.head else ""
    return f"{experiment.task.kind.name} by {mode.name}{shared}, scored by {scored}"


def _mode(experiment: Experiment) -> AnswerMode:
    return answer_mode(experiment.task, experiment.model)


def _restore(run: Sequential, earlier: TrainingState) -> None:
    """Put the run behind the last stage that an earlier try learned whole."""
    settings = run.experiment
    state.require_same(run.folder, earlier.about, run.conditions)
    state.restore(run.folder, Training.of(run.adapted, settings.train, settings.learning_rate, run.flow), earlier)
    run.summary.restore(earlier.about["history"])
    run.matrix, run.step = earlier.about["matrix"], earlier.step


def _learn(run: Sequential, stage: Stage) -> Training:
    """Train one stage, with an optimizer of its own."""
    own = stage.experiment
    training = Training.of(run.adapted, own.train, own.learning_rate, run.flow)
    events = stage.steps(training, run.accelerator)
    counted = (dataclasses.replace(event, step=run.step + event.step) for event in events)
    for _ in run.sinks.pass_on(run.summary.pass_on(counted)):
        pass
    run.step += stage.schedule.total_steps
    if distributed.rank() == 0:
        adapter.save(run.folder / "adapter-last.safetensors", run.adapted, run.experiment, run.labels, run.step)
    return training


def _score_all(run: Sequential) -> None:
    """Score every stage's task now, and add a row to the matrix."""
    during = run.adapted.take_routing()
    run.predictions, run.routing = [], {}
    for stage in run.stages:
        event = _score(run, stage, during)
        run.sinks.write(event)
        if note := run.alarm.look(event.routing):
            run.sinks.write(note)
        during, run.routing[stage.name] = {}, event.routing
    run.matrix.append([predictions.scores[run.metric] for predictions in run.predictions])


def _score(run: Sequential, stage: Stage, during: dict[str, Any]) -> Evaluated:
    """Score one stage's task now; `during` is the routing of the training before."""
    began = time.perf_counter()
    task, size = stage.experiment.task, stage.experiment.train.eval_batch_size
    encoded, device = stage.encoded["validation"], run.accelerator.device
    predictions = outside.predictions(stage.objective, run.adapted, encoded, task, size, device)
    run.predictions.append(predictions)
    return Evaluated(
        step=run.step,
        epoch=float(len(run.matrix) + 1),
        split=f"{stage.name}/validation",
        loss=predictions.loss,
        scores=predictions.scores,
        seconds=time.perf_counter() - began,
        best=False,
        routing=run.adapted.take_routing(),
        training_routing=during,
    )


def _save(run: Sequential, training: Training) -> None:
    """Write the state that the run resumes from, unless this was the last stage."""
    if distributed.rank() == 0 and len(run.matrix) < len(run.stages):
        reached = {"step": run.step, "matrix": run.matrix, "history": run.summary.as_state()}
        state.save(run.folder, training, {**run.conditions, **reached})


def _finish(run: Sequential) -> None:
    """Write the last predictions, check what was trained and fill the record."""
    record = run.record
    record.training = run.summary.as_data()
    record.scores = _scores(run)
    record.memory_bytes = hardware.peak_memory_bytes()
    named = list(zip(run.stages, run.predictions, strict=True))
    if distributed.rank() == 0:
        rows = [{"stage": stage.name, **row} for stage, predictions in named for row in predictions.rows]
        write_rows(run.folder / "predictions-last.jsonl", rows)
    losses = [predictions.loss for predictions in run.predictions]
    record.checks = checked(run.stages[-1], run.adapted, losses, run.folder, run.accelerator)
    record.checks["gradient_flow"] = run.flow.report()
    record.routing = run.routing.get(run.stages[-1].name, {})
    degenerate = [f"{why} in {stage.name}" for stage, predictions in named for why in predictions.degenerate()]
    mark(record, degenerate + run.alarm.degenerate_in(run.routing), run.sinks)


def _scores(run: Sequential) -> Scores:
    """Return the record's scores: OP under the metric's own name, PD and BWT beside it."""
    metric, matrix = run.metric, _defined(run)
    end: Score = {
        "step": run.step,
        "epoch": float(len(run.stages)),
        "loss": sum(predictions.loss for predictions in run.predictions) / len(run.predictions),
        "scores": {
            metric: overall_performance(matrix),
            "performance_drop": performance_drop(matrix),
            "backward_transfer": backward_transfer(matrix),
        },
    }
    baselines = [stage.baseline([metric]) for stage in run.stages]
    known = [baseline[metric] for baseline in baselines if metric in baseline]
    return {
        "metric": metric,
        "stages": [stage.name for stage in run.stages],
        "matrix": run.matrix,
        "last": end,
        "best": end,
        "selection": f"none: after the last stage; {metric} is the mean over the stages (OP)",
        "evaluations": 1,
        "constant": {metric: sum(known) / len(known)} if known else {},
    }


def _defined(run: Sequential) -> list[list[float]]:
    """Return the matrix with what an undefined score counts as by convention."""
    value = metric_of(run.stages[0].experiment.task, run.metric).undefined
    return [[value if math.isnan(score) else score for score in row] for row in run.matrix]
