"""One run, read from top to bottom: settings in, a record out."""

import json
import math
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli import checkpoint, hardware, records, schema, writing
from molex_cli.backbones.loading import longest_input
from molex_cli.backbones.sources import default_cache_dir
from molex_cli.data import reading
from molex_cli.data.encoding import Encoded
from molex_cli.errors import ConfigError
from molex_cli.evaluation import Scoring
from molex_cli.events import Event, Finished, Noted, Started, Step
from molex_cli.methods.base import Adapted
from molex_cli.objectives import Objective, objective
from molex_cli.plan import ledger
from molex_cli.sinks import Sink, Sinks
from molex_cli.sinks.console import Console
from molex_cli.sinks.jsonl import Jsonl
from molex_cli.sinks.wandb import WandbSink
from molex_cli.training import GradientFlow, Timetable, steps

if TYPE_CHECKING:
    pass


def run(experiment: schema.Experiment, extra_sinks: tuple[Sink, ...] = ()) -> records.Record:
    """Train, score and record one experiment; a run that fails leaves a record of it and raises."""
    settings = schema.as_data(experiment)
    variant = records.variant_id(settings)
    name = f"{experiment.task.name}-{experiment.method.name}-{experiment.model.name}-{variant}-s{experiment.seed}"
    folder = records.new_folder(experiment.output_dir, name)
    record = records.Record(
        name=experiment.name,
        variant=variant,
        seed=experiment.seed,
        settings=settings,
        display={"method": experiment.method.display_name},
        started=_now(),
        command=sys.argv[1:],
        environment=records.environment(),
    )
    records.write_record(folder, record)
    sinks = Sinks([Console(), Jsonl(folder / "events.jsonl", experiment.log.every), *extra_sinks])
    if experiment.log.wandb is not schema.Wandb.disabled:
        log = WandbSink(experiment.log, folder, lambda message: sinks.write(Noted(message=message)))
        sinks = Sinks([Console(), Jsonl(folder / "events.jsonl", experiment.log.every), *extra_sinks, log])
    try:
        with _terminated_as_interrupt():
            _train(experiment, folder, record, sinks)
        record.status = "finished"
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record.error = {
            "type": type(error).__name__,
            "message": str(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
        error.add_note(f"recorded in {folder}/record.json")
        raise
    finally:
        record.finished = _now()
        records.write_record(folder, record)
        error_line = (record.error["message"] or record.error["type"]) if record.error else None
        sinks.write(Finished(status=record.status, folder=str(folder), scores=record.scores, error=error_line))
        sinks.close()
    return record


def _train(experiment: schema.Experiment, folder: Path, record: records.Record, sinks: Sinks) -> None:
    accelerator = hardware.accelerator(experiment.hardware)
    record.environment["hardware"] = hardware.description()
    splits, labels = reading.read(experiment.task, experiment.data_dir, experiment.train.max_rows)
    protocol = checkpoint.asked(experiment)
    adapted = checkpoint.adapt(experiment, labels)
    goal = objective(experiment.task, protocol, labels)
    encoded = _encoded(experiment, adapted, goal, splits)
    record.data = {split: _about(splits[split], encoded[split]) for split in splits}
    _plan_into(record, adapted, experiment.train.max_length)
    names = experiment.task.metrics
    majority = goal.baseline(names, encoded["train"], encoded["validation"])
    timetable = Timetable.of(experiment.train, len(splits["train"].ids), accelerator.num_processes)
    sinks.write(_started(experiment, folder, record, timetable, encoded["train"], majority))

    flow = GradientFlow.of(adapted)
    batch_size = experiment.train.eval_batch_size
    record.evaluation = _evaluation(experiment, adapted, goal, batch_size)
    for reason in record.evaluation["not_computed"].values():
        sinks.write(Noted(message=reason))
    if adapted.batch_dependent:
        sinks.write(Noted(message=f"scores depend on the evaluation batch of {batch_size}: {adapted.batch_dependent}"))
    scoring = Scoring(adapted, goal, encoded["validation"], names, batch_size=batch_size, accelerator=accelerator)
    started = time.perf_counter()
    trained = steps(
        adapted,
        goal,
        encoded["train"],
        experiment.train,
        learning_rate=experiment.learning_rate,
        seed=experiment.seed,
        accelerator=accelerator,
        flow=flow,
    )
    events = scoring.after_each(trained, timetable, experiment.train)
    events = checkpoint.along(events, folder, adapted, experiment, labels)
    summary = _Summary(timetable, experiment)
    for event in sinks.told(events):
        summary.add(event)
    record.training = summary.as_data(time.perf_counter() - started)
    record.scores = scoring.summary(majority)
    record.routing = scoring.routing
    for which, outcome in (("last", scoring.last), ("best", scoring.best)):
        assert outcome is not None
        records.write_rows(folder / f"predictions-{which}.jsonl", outcome.answers.rows)
    assert scoring.last is not None
    record.memory_bytes = hardware.peak_memory_bytes()
    record.checks = {
        "gradient_flow": flow.report(),
        "reload": checkpoint.reload_check(
            folder / "adapter-last.safetensors", adapted, goal, encoded["validation"], batch_size, accelerator.device
        ),
        "finite": {"passed": all(map(math.isfinite, (record.training["mean_loss"], scoring.last.answers.loss)))},
    }
    record.degenerate = scoring.degenerate() + _failed_checks(record.checks)
    for reason in record.degenerate:
        sinks.write(Noted(message=f"this run is marked degenerate: {reason}"))


def _encoded(
    experiment: schema.Experiment, adapted: Adapted, goal: Objective, splits: dict[str, reading.Split]
) -> dict[str, Encoded]:
    most, max_length = longest_input(adapted.backbone), experiment.train.max_length
    if most is not None and max_length > most:
        raise ConfigError(f"train.max_length must fit {experiment.model.name}, at most {most}, got {max_length}")
    cache_dir = Path(experiment.cache_dir) if experiment.cache_dir else default_cache_dir()
    tokenizer = adapted.backbone.tokenizer
    return {
        name: goal.encode(split, tokenizer, max_length, cache_dir, training=name == "train")
        for name, split in splits.items()
    }


def _plan_into(record: records.Record, adapted: Adapted, length: int) -> None:
    plan = ledger(adapted, length)
    record.parameters = plan.parameters
    record.experts_per_layer = plan.experts_per_layer
    record.flops_per_token = plan.flops_per_token


def _evaluation(experiment: schema.Experiment, adapted: Adapted, goal: Objective, batch_size: int) -> dict[str, Any]:
    names = experiment.task.metrics
    return {
        "protocol": goal.protocol,
        "implementations": writing.implementations(names),
        "not_computed": {name: writing.NOT_COMPUTED[name] for name in names if name in writing.NOT_COMPUTED},
        "batch_size": batch_size,
        "order": "as in the split" if adapted.batch_dependent else "by length",
        "depends_on_batch": adapted.batch_dependent or None,
    }


def _about(split: reading.Split, encoded: Encoded) -> dict[str, Any]:
    return {
        "source": split.source,
        "rows": split.num_rows,
        "rows_used": len(split.ids),
        "tokens": int(encoded.offsets[-1]),
        "fingerprint": split.fingerprint,
    }


def _started(
    experiment: schema.Experiment,
    folder: Path,
    record: records.Record,
    timetable: Timetable,
    train: Encoded,
    majority: dict[str, float],
) -> Started:
    lengths = train.lengths
    tokens = sum(lengths[row] for rows in timetable.batches(lengths, experiment.seed) for row in rows)
    return Started(
        name=record.name,
        variant=record.variant,
        seed=record.seed,
        folder=str(folder),
        total_steps=timetable.total_steps,
        total_tokens=tokens,
        parameters=record.parameters,
        experts_per_layer=record.experts_per_layer,
        majority=majority,
        settings=record.settings,
    )


class _Summary:
    """Adds up what the steps say, for the record."""

    def __init__(self, timetable: Timetable, experiment: schema.Experiment) -> None:
        self._timetable, self._learning_rate = timetable, experiment.learning_rate
        self._steps: list[Step] = []

    def add(self, event: Event) -> None:
        if isinstance(event, Step):
            self._steps.append(event)

    def as_data(self, seconds: float) -> dict[str, Any]:
        tokens = sum(step.tokens for step in self._steps)
        step_seconds = sum(step.seconds for step in self._steps)
        tenth = max(1, len(self._steps) // 10)
        losses = [step.loss for step in self._steps]
        return {
            "steps": len(self._steps),
            "effective_batch": self._timetable.effective_batch,
            "learning_rate": self._learning_rate,
            "tokens": tokens,
            "seconds": seconds,
            "step_seconds": step_seconds,
            "tokens_per_second": tokens / step_seconds,
            "first_loss": sum(losses[:tenth]) / tenth,
            "last_loss": sum(losses[-tenth:]) / tenth,
            "mean_loss": sum(losses) / len(losses),
        }


def _failed_checks(checks: dict[str, Any]) -> list[str]:
    reasons = []
    if checks["gradient_flow"]["passed"] is False:
        dead = checks["gradient_flow"]["without_gradient"]
        reasons.append(f"{len(dead)} trainable tensors got no gradient: {', '.join(dead[:3])}")
    if not checks["reload"]["passed"]:
        reasons.append(f"the saved adapter scores differently ({json.dumps(checks['reload']['max_difference'])})")
    return reasons


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a run as Ctrl-C does: with its record written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(signum).name)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
