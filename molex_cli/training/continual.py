"""Continual learning: stages one after the other, the adapters carried on, every stage's task scored after each.

The optimizer and its schedule start anew with every stage (MoLA, appendix C).
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.config import schema
from molex_cli.config.task import AnswerMode
from molex_cli.data import reading
from molex_cli.data.encoding import Encoded
from molex_cli.errors import TaskError
from molex_cli.methods.base import Adapted
from molex_cli.methods.ledger import plan_into
from molex_cli.methods.placement import place
from molex_cli.metrics.continual import backward_transfer, overall_performance, performance_drop
from molex_cli.objectives import Objective, Predictions, build_objective
from molex_cli.objectives.splits import about, encoded_splits
from molex_cli.runtime import distributed, hardware
from molex_cli.tracking.events import Evaluated, Noted, Started
from molex_cli.tracking.sinks import Sinks
from molex_cli.training import state
from molex_cli.training.loop import GradientFlow, Schedule, Training, steps
from molex_cli.training.state import TrainingState
from molex_cli.training.summary import CollapseAlarm, Summary, evaluation, failed_checks

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Stage:
    """One task of the sequence, ready to be learned and scored."""

    name: str
    experiment: schema.Experiment
    objective: Objective
    splits: dict[str, reading.Split]
    encoded: dict[str, Encoded]
    schedule: Schedule


def train(
    experiment: schema.Experiment, folder: Path, record: records.Record, sinks: Sinks, earlier: TrainingState | None
) -> None:
    """Learn the stages in order and fill the record: the matrix, OP, PD and BWT.

    A run resumes after the last stage that was learned whole.
    """
    accelerator = hardware.accelerator(experiment.hardware)
    record.environment["hardware"] = hardware.description()
    adapted, labels, stages = _prepared(experiment)
    record.data = {
        f"{stage.name}/{split}": about(stage.splits[split], stage.encoded[split])
        for stage in stages
        for split in stage.splits
    }
    plan_into(record, adapted, experiment.train.max_length)
    metric = stages[0].experiment.task.metrics[0]
    record.evaluation = evaluation(stages[0].experiment, adapted, stages[0].objective, sinks)
    place(adapted, experiment.hardware, accelerator)
    flow, summary = GradientFlow.of(adapted), Summary(stages[0].schedule, experiment)
    conditions = state.conditions(experiment, record.environment, record.data)
    matrix: list[list[float]] = []
    found, routings = list[Predictions](), dict[str, dict[str, dict[str, Any]]]()
    alarm = CollapseAlarm(experiment.collapse, {})
    step = 0
    if earlier is not None:
        state.require_same(folder, earlier.about, conditions)
        state.restore(folder, Training.of(adapted, experiment.train, experiment.learning_rate, flow), earlier)
        summary.restore(earlier.about["history"])
        matrix, step = earlier.about["matrix"], earlier.step
    sinks.write(_started(record, folder, stages, step))
    for stage in stages[len(matrix) :]:
        sinks.write(Noted(message=f"stage {len(matrix) + 1} of {len(stages)}: {stage.name}"))
        own = stage.experiment
        training = Training.of(adapted, own.train, own.learning_rate, flow)
        step = _learn(stage, training, accelerator, (step, summary), sinks)
        if distributed.rank() == 0:
            adapter.save(folder / "adapter-last.safetensors", adapted, experiment, labels, step)
        found, routings = _scored_all(stages, adapted, (step, len(matrix) + 1), (sinks, alarm), accelerator)
        matrix.append([answers.scores[metric] for answers in found])
        if distributed.rank() == 0 and len(matrix) < len(stages):
            content = {**conditions, "step": step, "matrix": matrix, "history": summary.as_state()}
            state.save(folder, training, content)
    record.training = summary.as_data()
    record.scores = _scores(metric, stages, matrix, step, found)
    record.memory_bytes = hardware.peak_memory_bytes()
    _check(record, experiment, folder, adapted, (stages, found), accelerator)
    record.checks["gradient_flow"] = flow.report()
    record.routing = routings.get(stages[-1].name, {})
    record.degenerate += alarm.found_in(routings) + failed_checks(record.checks)
    for reason in record.degenerate:
        sinks.write(Noted(message=f"this run is marked degenerate: {reason}"))


def _check(
    record: records.Record,
    experiment: schema.Experiment,
    folder: Path,
    adapted: Adapted,
    outcome: tuple[Sequence[Stage], Sequence[Predictions]],
    accelerator: "Accelerator",
) -> None:
    """Write the last predictions, load the adapter again, and note what is doubtful."""
    stages, found = outcome
    if distributed.rank() == 0:
        rows = [{"stage": s.name, **row} for s, answers in zip(stages, found, strict=True) for row in answers.rows]
        records.write_rows(folder / "predictions-last.jsonl", rows)
    last = stages[-1]
    record.checks = {
        "reload": adapter.reload_check(
            folder / "adapter-last.safetensors",
            adapted,
            last.objective,
            last.encoded["validation"],
            experiment.train.eval_batch_size,
            lambda fresh: place(fresh, dataclasses.replace(experiment.hardware, shard=False), accelerator),
        ),
        "finite": {"passed": all(math.isfinite(answers.loss) for answers in found)},
    }
    pairs = zip(stages, found, strict=True)
    record.degenerate = [f"{reason} in {stage.name}" for stage, answers in pairs for reason in answers.doubts()]


def _prepared(experiment: schema.Experiment) -> tuple[Adapted, list[str], list[Stage]]:
    """Read every stage and load the model that can do them all."""
    experiments = {name: dataclasses.replace(experiment, task=task) for name, task in experiment.stages.items()}
    read = {name: reading.read(each.task, each.data_dir, each.train.max_rows) for name, each in experiments.items()}
    first = next(iter(experiments))
    labels = read[first][1]
    kinds = {name: _kind(each, read[name][1]) for name, each in experiments.items()}
    for name, kind in kinds.items():
        if kind != kinds[first]:
            raise TaskError(f"stages must be of one kind, got {kinds[first]} in {first} and {kind} in {name}")
    asked = {each.task.kind.name + " by " + adapter.answer_mode(each).name for each in (experiment, experiments[first])}
    if len(asked) > 1:
        raise TaskError(f"task must be asked as its stages are, got {' and '.join(sorted(asked))}")
    adapted = adapter.adapt(experiments[first], labels)
    stages = []
    for name, each in experiments.items():
        splits, own = read[name]
        objective = build_objective(each.task, adapter.answer_mode(each), own)
        encoded = encoded_splits(each, adapted, objective, splits)
        schedule = Schedule.of(each.train, len(splits["train"].ids))
        stages.append(Stage(name, each, objective, splits, encoded, schedule))
    return adapted, labels, stages


def _kind(experiment: schema.Experiment, labels: Sequence[str]) -> str:
    """Return in words what stages must have in common; labels only where a head is trained on them."""
    answer_mode = adapter.answer_mode(experiment)
    shared = f" of {', '.join(labels)}" if labels and answer_mode is AnswerMode.head else ""
    return f"{experiment.task.kind.name} by {answer_mode.name}{shared}, scored by {experiment.task.metrics[0]}"


def _learn(
    stage: Stage, training: Training, accelerator: "Accelerator", so_far: tuple[int, Summary], sinks: Sinks
) -> int:
    """Train one stage and return the number of steps so far."""
    before, summary = so_far
    own = stage.experiment
    events = steps(training, stage.objective, stage.encoded["train"], own.train, seed=own.seed, accelerator=accelerator)
    counted = (dataclasses.replace(event, step=before + event.step) for event in events)
    for _ in sinks.told(summary.along(counted)):
        pass
    return before + stage.schedule.total_steps


def _scored_all(
    stages: Sequence[Stage],
    adapted: Adapted,
    reached: tuple[int, int],
    told: tuple[Sinks, CollapseAlarm],
    accelerator: "Accelerator",
) -> tuple[list[Predictions], dict[str, dict[str, dict[str, Any]]]]:
    """Score every stage's task now, after a step and a number of stages; return answers and routing by stage."""
    sinks, alarm = told
    during, found, routings = adapted.take_routing(), [], {}
    for stage in stages:
        answers, event = _scored(stage, adapted, *reached, accelerator)
        sinks.write(dataclasses.replace(event, training_routing=during))
        for note in alarm.look(event.routing):
            sinks.write(note)
        found.append(answers)
        during, routings[stage.name] = {}, event.routing
    return found, routings


def _scored(
    stage: Stage, adapted: Adapted, step: int, learned: int, accelerator: "Accelerator"
) -> tuple[Predictions, Evaluated]:
    """Score one stage's task now."""
    started = time.perf_counter()
    names, size = stage.experiment.task.metrics, stage.experiment.train.eval_batch_size
    answers = stage.objective.predictions(adapted, stage.encoded["validation"], names, size, accelerator.device)
    return answers, Evaluated(
        step=step,
        epoch=float(learned),
        split=f"{stage.name}/validation",
        loss=answers.loss,
        scores=answers.scores,
        seconds=time.perf_counter() - started,
        best=False,
        routing=adapted.take_routing(),
    )


def _scores(
    metric: str, stages: Sequence[Stage], matrix: list[list[float]], step: int, found: Sequence[Predictions]
) -> dict[str, Any]:
    """Return the record's scores: OP under the metric's own name, PD and BWT beside it."""
    scores = {
        metric: overall_performance(matrix),
        "performance_drop": performance_drop(matrix),
        "backward_transfer": backward_transfer(matrix),
    }
    end = {
        "step": step,
        "epoch": float(len(stages)),
        "loss": sum(answers.loss for answers in found) / len(found),
        "scores": scores,
    }
    baselines = [s.objective.baseline([metric], s.encoded["train"], s.encoded["validation"]) for s in stages]
    known = [baseline[metric] for baseline in baselines if metric in baseline]
    return {
        "metric": metric,
        "stages": [stage.name for stage in stages],
        "matrix": matrix,
        "last": end,
        "best": end,
        "selection": f"none: after the last stage; {metric} is the mean over the stages (OP)",
        "majority": {metric: sum(known) / len(known)} if known else {},
    }


def _started(record: records.Record, folder: Path, stages: Sequence[Stage], first_step: int) -> Started:
    tokens = sum(
        stage.encoded["train"].lengths[row]
        for stage in stages
        for rows in stage.schedule.batches(stage.encoded["train"].lengths, record.seed)
        for row in rows
    )
    return Started(
        name=record.name,
        variant=record.variant,
        seed=record.seed,
        folder=str(folder),
        total_steps=sum(stage.schedule.total_steps for stage in stages),
        total_tokens=tokens,
        parameters=record.parameters,
        experts_per_layer=record.experts_per_layer,
        majority={},
        flops_per_token=record.flops_per_token,
        data=record.data,
        settings=record.settings,
        first_step=first_step,
    )
