"""One run, read from top to bottom: settings in, a record out."""

import dataclasses
import hashlib
import math
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.config import run_id, schema
from molex_cli.data import reading
from molex_cli.data.encoding import Encoded
from molex_cli.errors import RecordError
from molex_cli.methods.ledger import plan_into
from molex_cli.methods.placement import place
from molex_cli.objectives import build_objective
from molex_cli.objectives.splits import about, encoded_splits
from molex_cli.records import index
from molex_cli.records.locks import RunLock, State
from molex_cli.runtime import distributed, hardware
from molex_cli.runtime.signals import terminated_as_interrupt
from molex_cli.tracking.console import Console
from molex_cli.tracking.events import Finished, Noted, Started
from molex_cli.tracking.jsonl import Jsonl
from molex_cli.tracking.sinks import Sink, Sinks
from molex_cli.tracking.wandb import WandbSink
from molex_cli.training import continual, state
from molex_cli.training.evaluation import Scoring
from molex_cli.training.loop import Schedule, Training, steps
from molex_cli.training.state import TrainingState
from molex_cli.training.summary import CollapseAlarm, Summary, evaluation, failed_checks


def run(
    experiment: schema.Experiment, extra_sinks: tuple[Sink, ...] = (), claim: RunLock | None = None
) -> records.Record:
    """Train, score and record one experiment, or resume where an earlier try stopped; return the record.

    A run that fails leaves a record of it and raises. `claim` is the run's folder, if it is ours already.
    """
    with distributed.destroy_at_end():
        if "WORLD_SIZE" in os.environ:  # the processes must know each other to agree on a folder
            hardware.accelerator(experiment.hardware)
        own = claim or _claimed(experiment)
        if own.state is State.elsewhere:
            raise RecordError(f"{own.folder} must be this process's to work on, got another process at work there")
        if own.state is not State.ours:
            assert own.record is not None
            return own.record
        try:
            return _run(experiment, own, extra_sinks)
        finally:
            own.release()


def _claimed(experiment: schema.Experiment) -> RunLock:
    """Return the same claim in all processes of a run; the first one holds the lock."""
    own = run_id.acquired(experiment) if distributed.rank() == 0 else None
    found = distributed.broadcast((own.folder, own.state, own.record) if own else None)
    if own is None:
        assert found is not None
        return RunLock(*found)
    return own


def _run(experiment: schema.Experiment, claim: RunLock, extra_sinks: tuple[Sink, ...]) -> records.Record:
    folder = claim.folder
    earlier = state.load(folder)
    now = state.conditions(experiment, records.environment())
    if earlier is not None:
        state.require_same(folder, earlier.about, now)
    settings = schema.as_data(experiment)
    record = records.Record(
        name=experiment.name,
        variant=records.variant_id(settings),
        seed=experiment.seed,
        settings=settings,
        display={"method": experiment.method.display_name},
        started=_now(),
        command=sys.argv[1:],
        environment=records.environment(),
        attempts=_attempts(claim.record, earlier),
    )
    _write(folder, record)
    sinks = Sinks([])
    try:
        sinks = _sinks(experiment, folder, record, extra_sinks, earlier.step if earlier else None)
        with terminated_as_interrupt():
            (continual.train if experiment.stages else _train)(experiment, folder, record, sinks, earlier)
        record.status = "finished"
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record.error = records.error_of(error)
        error.add_note(f"recorded in {folder}/record.json")
        raise
    finally:
        record.finished = _now()
        _write(folder, record)
        if record.status == "finished":
            _tidy(folder, experiment.keep)
        error_line = (record.error["message"] or record.error["type"]) if record.error else None
        sinks.write(
            Finished(
                status=record.status,
                folder=str(folder),
                scores=record.scores,
                training=record.training,
                memory_bytes=record.memory_bytes,
                degenerate=record.degenerate,
                error=error_line,
            )
        )
        sinks.close()
    return record


def _train(
    experiment: schema.Experiment, folder: Path, record: records.Record, sinks: Sinks, earlier: TrainingState | None
) -> None:
    accelerator = hardware.accelerator(experiment.hardware)
    record.environment["hardware"] = hardware.description()
    splits, labels = reading.read(experiment.task, experiment.data_dir, experiment.train.max_rows)
    adapted = adapter.adapt(experiment, labels)
    objective = build_objective(experiment.task, adapter.answer_mode(experiment), labels)
    encoded = encoded_splits(experiment, adapted, objective, splits)
    record.data = {split: about(splits[split], encoded[split]) for split in splits}
    plan_into(record, adapted, experiment.train.max_length)
    names = experiment.task.metrics
    majority = objective.baseline(names, encoded["train"], encoded["validation"])
    schedule = Schedule.of(experiment.train, len(splits["train"].ids))

    place(adapted, experiment.hardware, accelerator)
    training = Training.of(adapted, experiment.train, experiment.learning_rate)
    scoring = Scoring(
        adapted,
        objective,
        encoded["validation"],
        names,
        settings=experiment.train,
        schedule=schedule,
        accelerator=accelerator,
    )
    summary = Summary(schedule, experiment)
    conditions = state.conditions(experiment, record.environment, record.data)
    writer = state.CheckpointWriter(folder, experiment, labels, training, scoring, conditions, summary)
    if earlier is not None:
        state.require_same(folder, earlier.about, conditions)
        state.restore(folder, training, earlier)
        scoring.restore(earlier.about["scoring"], _predictions(folder))
        summary.restore(earlier.about["history"])
    sinks.write(_started(experiment, folder, record, schedule, encoded, majority, training.step))

    record.evaluation = evaluation(experiment, adapted, objective, sinks)
    trained = steps(
        training, objective, encoded["train"], experiment.train, seed=experiment.seed, accelerator=accelerator
    )
    alarm = CollapseAlarm(experiment.collapse, scoring.routing)
    events = alarm.along(summary.along(scoring.after_each(trained)))
    for _ in writer.along(sinks.told(events)):
        pass
    record.training = summary.as_data()
    record.scores = scoring.summary(majority)
    record.routing = scoring.routing
    assert scoring.last is not None
    record.memory_bytes = hardware.peak_memory_bytes()
    record.checks = {
        "gradient_flow": training.flow.report(),
        "reload": adapter.reload_check(
            folder / "adapter-last.safetensors",
            adapted,
            objective,
            encoded["validation"],
            experiment.train.eval_batch_size,
            lambda fresh: place(fresh, dataclasses.replace(experiment.hardware, shard=False), accelerator),
        ),
        "finite": {"passed": all(map(math.isfinite, (record.training["mean_loss"], scoring.last.predictions.loss)))},
    }
    record.degenerate = scoring.degenerate() + alarm.reasons + failed_checks(record.checks)
    for reason in record.degenerate:
        sinks.write(Noted(message=f"this run is marked degenerate: {reason}"))


def _attempts(before: records.Record | None, earlier: TrainingState | None) -> list[dict[str, Any]]:
    """Return what the record keeps of earlier tries of the run."""
    if before is None:
        return []
    # A process that was killed could not write that it ended.
    status = "interrupted" if before.status == "running" else before.status
    last = {"started": before.started, "finished": before.finished, "status": status, "error": before.error}
    return [*before.attempts, {**last, "resumed_from_step": earlier.step if earlier else 0}]


def _sinks(
    experiment: schema.Experiment, folder: Path, record: records.Record, extra: tuple[Sink, ...], keep_until: int | None
) -> Sinks:
    """Return where the run's events go; of the processes of a run only the first one tells."""
    if distributed.rank() > 0:
        return Sinks(extra)
    local: list[Sink] = [Console(), Jsonl(folder / "events.jsonl", experiment.log.every, keep_until), *extra]
    if experiment.log.wandb is schema.Wandb.disabled:
        return Sinks(local)
    first_try = record.attempts[0]["started"] if record.attempts else record.started
    run_id = hashlib.sha256(f"{folder.resolve()} {first_try}".encode()).hexdigest()[:12]
    notes = Sinks(local)
    log = WandbSink(experiment.log, folder, run_id, lambda message: notes.write(Noted(message=message)))
    return Sinks([*local, log])


def _write(folder: Path, record: records.Record) -> None:
    if distributed.rank() == 0:
        records.write_record(folder, record)
        index.add(folder, record)


def _predictions(folder: Path) -> dict[str, list[dict[str, Any]]]:
    paths = {which: folder / f"predictions-{which}.jsonl" for which in ("last", "best")}
    return {which: records.read_rows(path) for which, path in paths.items() if path.exists()}


def _tidy(folder: Path, keep: schema.Keep) -> None:
    """Remove what a finished run no longer needs."""
    if distributed.rank() > 0:
        return
    (folder / state.NAME).unlink(missing_ok=True)
    has_best = (folder / "adapter-best.safetensors").exists()  # after stages the last is the best
    for which in ("last", "best"):
        if keep.name not in ("both", which) and (has_best or keep is not schema.Keep.best):
            (folder / f"adapter-{which}.safetensors").unlink(missing_ok=True)


def _started(
    experiment: schema.Experiment,
    folder: Path,
    record: records.Record,
    schedule: Schedule,
    encoded: dict[str, Encoded],
    majority: dict[str, float],
    first_step: int,
) -> Started:
    lengths = encoded["train"].lengths
    tokens = sum(lengths[row] for rows in schedule.batches(lengths, experiment.seed) for row in rows)
    return Started(
        name=record.name,
        variant=record.variant,
        seed=record.seed,
        folder=str(folder),
        total_steps=schedule.total_steps,
        total_tokens=tokens,
        parameters=record.parameters,
        experts_per_layer=record.experts_per_layer,
        majority=majority,
        flops_per_token=record.flops_per_token,
        data=record.data,
        settings=record.settings,
        first_step=first_step,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
