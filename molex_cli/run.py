"""One run, read from top to bottom: settings in, a record out."""

import hashlib
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molex_cli import records
from molex_cli.config import schema
from molex_cli.data import reading, same_run
from molex_cli.errors import RecordError
from molex_cli.records import index
from molex_cli.records.locks import BEGUN, RunLock, State
from molex_cli.records.parts import Attempt
from molex_cli.runtime import distributed, hardware
from molex_cli.runtime.signals import terminated_as_interrupt
from molex_cli.tracking.console import Console
from molex_cli.tracking.events import Finished, Noted
from molex_cli.tracking.jsonl import Jsonl
from molex_cli.tracking.sinks import Sink, Sinks
from molex_cli.tracking.wandb import WandbSink, chosen_mode
from molex_cli.training import continual, single_task, state
from molex_cli.training.stage import Stage
from molex_cli.training.state import TrainingState


def run(
    experiment: schema.Experiment, extra_sinks: tuple[Sink, ...] = (), lock: RunLock | None = None
) -> records.Record:
    """Train, score and record one experiment, or resume where an earlier try stopped; return the record.

    What is wrong with rows, lengths or model raises before there is a folder; a run that fails later leaves a record of
    it and raises. `lock` is that on the run's folder, if it is ours already.
    """
    with distributed.destroy_at_end():
        if "WORLD_SIZE" in os.environ:  # the processes must know each other to agree on a folder
            hardware.accelerator(experiment.hardware)
        learner = continual if experiment.stages else single_task
        rows = reading.read_all(experiment)
        stages = learner.prepared(experiment, rows)  # what is wrong with the rows leaves no folder
        data = reading.about_all(rows)
        own = lock or _acquired(experiment, data)
        if own.state is State.elsewhere:
            raise RecordError(f"{own.folder} must be this process's to work on, got another process at work there")
        if own.state is not State.ours:
            assert own.record is not None
            return own.record
        try:
            with records.told_without_room():  # not even for the record
                return _run(experiment, learner.train, stages, data, own, extra_sinks)
        finally:
            own.release()


def _acquired(experiment: schema.Experiment, data: dict[str, Any]) -> RunLock:
    """Return the same lock in all processes of a run; the first one holds it."""
    own = same_run.acquired(experiment, data) if distributed.rank() == 0 else None
    shared = distributed.broadcast((own.folder, own.state, own.record) if own else None)
    if own is None:
        assert shared is not None
        return RunLock(*shared)
    return own


def _run(
    experiment: schema.Experiment,
    train: Callable[..., None],
    stages: list[Stage],
    data: dict[str, Any],
    lock: RunLock,
    extra_sinks: tuple[Sink, ...],
) -> records.Record:
    """Train in the run's folder and record how that ended."""
    folder = lock.folder
    earlier = state.load(folder)
    if earlier is not None:
        state.require_same(folder, earlier.about, state.conditions(experiment, records.environment()))
    record = _new_record(experiment, data, _attempts(lock.record, earlier))
    _write(folder, record)
    sinks = Sinks([])
    try:
        sinks = _sinks(experiment, folder, record, extra_sinks, earlier.step if earlier else None)
        for line in same_run.others(experiment, folder, data):
            sinks.write(Noted(message=line))
        with terminated_as_interrupt(), records.told_without_room():
            train(experiment, stages, folder, record, sinks, earlier)
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
        sinks.write(_finished(folder, record))
        sinks.close()
    return record


def _new_record(experiment: schema.Experiment, data: dict[str, Any], attempts: list[Attempt]) -> records.Record:
    settings = schema.as_data(experiment)
    return records.Record(
        name=experiment.name,
        variant=records.variant_id(settings),
        seed=experiment.seed,
        settings=settings,
        display={"method": experiment.method.display_name},
        started=_now(),
        command=sys.argv[1:],
        data=data,
        base=same_run.base_of(experiment),
        environment=records.environment(),
        attempts=attempts,
    )


def _finished(folder: Path, record: records.Record) -> Finished:
    return Finished(
        status=record.status,
        folder=str(folder),
        scores=record.scores,
        training=record.training,
        memory_bytes=record.memory_bytes,
        degenerate=record.degenerate,
        error=(record.error["message"] or record.error["type"]) if record.error else None,
    )


def _attempts(before: records.Record | None, earlier: TrainingState | None) -> list[Attempt]:
    """Return what the record keeps of earlier tries of the run."""
    if before is None:
        return []
    # A process that was killed could not write that it ended.
    status = "interrupted" if before.status == "running" else before.status
    last: Attempt = {
        "started": before.started,
        "finished": before.finished,
        "status": status,
        "error": before.error,
        "resumed_from_step": earlier.step if earlier else 0,
    }
    return [*before.attempts, last]


def _sinks(
    experiment: schema.Experiment, folder: Path, record: records.Record, extra: tuple[Sink, ...], keep_until: int | None
) -> Sinks:
    """Return where the run's events go; of the processes of a run only the first one writes."""
    if distributed.rank() > 0:
        return Sinks(extra)
    local: list[Sink] = [Console(), Jsonl(folder / "events.jsonl", experiment.log.every, keep_until), *extra]
    if chosen_mode(experiment.log.wandb) == "disabled":
        return Sinks(local)
    first_try = record.attempts[0]["started"] if record.attempts else record.started
    wandb_id = hashlib.sha256(f"{folder.resolve()} {first_try}".encode()).hexdigest()[:12]
    notes = Sinks(local)
    log = WandbSink(experiment.log, folder, wandb_id, lambda message: notes.write(Noted(message=message)))
    return Sinks([*local, log])


def _write(folder: Path, record: records.Record) -> None:
    if distributed.rank() == 0:
        records.write_record(folder, record)
        (folder / BEGUN).unlink(missing_ok=True)
        index.add(folder, record)


def _tidy(folder: Path, keep: schema.Keep) -> None:
    """Remove what a finished run no longer needs."""
    if distributed.rank() > 0:
        return
    (folder / state.NAME).unlink(missing_ok=True)
    has_best = (folder / "adapter-best.safetensors").exists()  # after stages the last is the best
    for which in ("last", "best"):
        if keep.name not in ("both", which) and (has_best or keep is not schema.Keep.best):
            (folder / f"adapter-{which}.safetensors").unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
