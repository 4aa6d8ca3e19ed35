"""One run, read from top to bottom: settings in, a record out."""

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

from molex_cli import checkpoint, continual, hardware, records, schema
from molex_cli.data import reading
from molex_cli.data.encoding import Encoded
from molex_cli.evaluation import Scoring
from molex_cli.events import Finished, Noted, Started
from molex_cli.objectives import objective
from molex_cli.recording import Summary, about, encoded_splits, evaluation, failed_checks, plan_into
from molex_cli.sinks import Sink, Sinks
from molex_cli.sinks.console import Console
from molex_cli.sinks.jsonl import Jsonl
from molex_cli.sinks.wandb import WandbSink
from molex_cli.training import GradientFlow, Timetable, steps


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
            (continual.train if experiment.stages else _train)(experiment, folder, record, sinks)
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
    encoded = encoded_splits(experiment, adapted, goal, splits)
    record.data = {split: about(splits[split], encoded[split]) for split in splits}
    plan_into(record, adapted, experiment.train.max_length)
    names = experiment.task.metrics
    majority = goal.baseline(names, encoded["train"], encoded["validation"])
    timetable = Timetable.of(experiment.train, len(splits["train"].ids), accelerator.num_processes)
    sinks.write(_started(experiment, folder, record, timetable, encoded["train"], majority))

    flow = GradientFlow.of(adapted)
    batch_size = experiment.train.eval_batch_size
    record.evaluation = evaluation(experiment, adapted, goal, sinks)
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
    summary = Summary(timetable, experiment)
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
    record.degenerate = scoring.degenerate() + failed_checks(record.checks)
    for reason in record.degenerate:
        sinks.write(Noted(message=f"this run is marked degenerate: {reason}"))


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
