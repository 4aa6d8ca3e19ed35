"""One run, read from top to bottom: settings in, a record out."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molex_cli import records
from molex_cli.analysis.allocating import frozen
from molex_cli.config import schema
from molex_cli.data import reading, same_run
from molex_cli.errors import DiskError, RecordError
from molex_cli.models.hub import repositories
from molex_cli.records import locks, tidying
from molex_cli.records.locks import BEGUN, RunLock, State
from molex_cli.records.parts import Attempt
from molex_cli.runtime import distributed, hardware
from molex_cli.runtime.signals import require_running, terminated_as_interrupt
from molex_cli.tracking.console import Console
from molex_cli.tracking.events import Finished, Noted
from molex_cli.tracking.jsonl import Jsonl
from molex_cli.tracking.sinks import Sink, Sinks
from molex_cli.tracking.wandb import WandbSink, chosen_mode
from molex_cli.training import continual, single_task, state
from molex_cli.training.memory.told import memory_errors_told
from molex_cli.training.stage import Stage
from molex_cli.training.state import TrainingState


def run(
    experiment: schema.Experiment,
    extra_sinks: tuple[Sink, ...] = (),
    lock: RunLock | None = None,
    rows: reading.Rows | None = None,
) -> records.Record:
    """Train, score and record one experiment, or resume where an earlier try stopped; return the record.

    What is wrong with rows, lengths or model raises before there is a folder; a run that fails later leaves a record of
    it and raises. `lock` is that on the run's folder, if it is ours already; `rows` are the
    experiment's, if they have been read.
    """
    with distributed.destroy_at_end():
        if hardware.shared_by_others():  # the processes must know each other to agree on a folder
            hardware.accelerator(experiment.hardware)
        repositories.pin(distributed.broadcast(same_run.commits(experiment) if distributed.rank() == 0 else {}))
        experiment = frozen(experiment)
        learner = continual if experiment.stages else single_task
        rows = rows or reading.read_all(experiment)
        stages = learner.prepared(experiment, rows)  # what is wrong with the rows leaves no folder
        data = reading.about_all(rows)
        require_running()
        own = lock or _acquired(experiment, data)
        if own.state is State.elsewhere:
            raise RecordError(
                f"{own.folder} must not be in use, got {locks.holder(own.record)} at work on it; wait for it, or set "
                "resume=never to start over beside it"
            )
        if own.state is not State.ours:
            assert own.record is not None
            return own.record
        try:
            with records.disk_errors_told():  # also of the record
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
    earlier = state.load(folder, sum(stage.schedule.total_steps for stage in stages))
    if earlier is not None:
        state.require_same(folder, earlier.about, state.conditions(experiment, records.environment()))
    record = _new_record(experiment, data, _attempts(lock.record, earlier))
    _write(folder, record)
    journal, watchers, sinks = Sinks([]), Sinks([Console()]), Sinks([])  # who says what goes wrong from here on
    try:
        journal = _journal(experiment, folder, earlier.step if earlier else None)
        watchers = _watchers(experiment, folder, record, journal, extra_sinks)
        sinks = Sinks([journal, watchers])
        for line in same_run.others(experiment, folder, data):
            sinks.write(Noted(message=line))
        told = memory_errors_told(experiment, stages[0].labels)
        with terminated_as_interrupt(), records.disk_errors_told(), told:
            train(experiment, stages, folder, record, sinks, earlier)
        record.status = "finished"
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt | DiskError) else "failed"
        record.error = records.error_of(error)
        error.add_note(f"recorded in {folder}/record.json")
        raise
    finally:
        record.finished = _now()
        with closing(sinks):
            _end(folder, record, journal, watchers)
    return record


def _end(folder: Path, record: records.Record, journal: Sinks, watchers: Sinks) -> None:
    """End the journal, then write the record, then do what follows from it: killed at any point, the next start does.

    Before its record says so a run has not ended, and its journal is cut back where it resumes.
    """
    journal.write(_finished(folder, record))
    _write(folder, record)
    if distributed.rank() == 0:
        tidying.drop_not_kept(folder, record)
    watchers.write(_finished(folder, record))


def _new_record(experiment: schema.Experiment, data: dict[str, Any], attempts: list[Attempt]) -> records.Record:
    settings = schema.as_data(experiment)
    return records.Record(
        name=experiment.name,
        variant=records.variant_id(settings),
        seed=experiment.seed,
        settings=settings,
        display={"method": experiment.method.display_name},
        started=_now(),
        command=records.command(),
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


def _journal(experiment: schema.Experiment, folder: Path, keep_until: int | None) -> Sinks:
    """Return the run's own file of its events; of the processes of a run only the first one writes."""
    if distributed.rank() > 0:
        return Sinks([])
    return Sinks([Jsonl(folder / "events.jsonl", experiment.log.every, keep_until)])


def _watchers(
    experiment: schema.Experiment, folder: Path, record: records.Record, journal: Sinks, extra: tuple[Sink, ...]
) -> Sinks:
    """Return who else sees the run's events."""
    if distributed.rank() > 0:
        return Sinks(extra)
    local: list[Sink] = [Console(), *extra]
    if chosen_mode(experiment.log.wandb) == "disabled":
        return Sinks(local)
    first_try = record.attempts[0]["started"] if record.attempts else record.started
    wandb_id = hashlib.sha256(f"{folder.resolve()} {first_try}".encode()).hexdigest()[:12]
    notes = Sinks([journal, *local])
    log = WandbSink(experiment.log, folder, wandb_id, lambda message: notes.write(Noted(message=message)))
    return Sinks([*local, log])


def _write(folder: Path, record: records.Record) -> None:
    if distributed.rank() == 0:
        locks.write(folder, record)
        (folder / BEGUN).unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
