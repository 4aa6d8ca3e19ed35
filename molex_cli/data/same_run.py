"""Whether an earlier try is the run that is asked for: made from the same settings, rows, labels and base; no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molex_cli.config import schema, task_metrics
from molex_cli.config.run_id import run_name
from molex_cli.data import reading
from molex_cli.data.tables import SPLITS, files_of, on_hub
from molex_cli.errors import RecordError
from molex_cli.models import sources
from molex_cli.models.hub import repositories
from molex_cli.models.hub.problems import Source
from molex_cli.models.hub.repositories import Key
from molex_cli.records import locks
from molex_cli.records.locks import Resume, RunLock
from molex_cli.records.made_from import differences, made_from, of_record
from molex_cli.records.parts import Base


def acquired(experiment: schema.Experiment, data: Mapping[str, Any] | None = None) -> RunLock:
    """Return the run's folder, locked if there is something for us to do in it; bad rows raise before there is one.

    `data` is what the record will say of the rows, where they have been read.
    """
    if data is None:
        repositories.pin(_earlier_commits(experiment))
    now = _made_from(experiment, data)
    return locks.acquire(experiment.output_dir, run_name(experiment), experiment.resume, now)


def ended(experiment: schema.Experiment) -> RunLock | None:
    """Return the run if it has ended and is to be left so."""
    name = run_name(experiment)
    if not locks.tries(experiment.output_dir, name):
        return None
    repositories.pin(_earlier_commits(experiment))
    return locks.ended(experiment.output_dir, name, experiment.resume, _made_from(experiment))


def others(experiment: schema.Experiment, folder: Path, data: Mapping[str, Any]) -> list[str]:
    """Return a line for each run of the same name, with what makes it another one; `data` is as in `acquired`."""
    lines, now = [], _made_from(experiment, data)
    for other in locks.tries(experiment.output_dir, run_name(experiment)):
        try:
            record = locks.record_of(other) if other.resolve() != folder.resolve() else None
        except RecordError as error:
            lines.append(f"{error}; this run stands beside it")
            continue
        if record is not None and (found := differences(of_record(record), now)):
            lines.append(f"{other} is another run of this name ({'; '.join(found)}); this one stands beside it")
    return lines


def base_of(experiment: schema.Experiment) -> Base:
    """Return what a record keeps of the base model's files."""
    return sources.base(experiment.model)


def commits(experiment: schema.Experiment) -> dict[Key, str]:
    """Return the commits of the hub that a run is made from: those of the try that it resumes, else today's."""
    repositories.pin(_earlier_commits(experiment))
    return repositories.commits(_on_hub(experiment).values()) | repositories.pinned()


def _earlier_commits(experiment: schema.Experiment) -> dict[Key, str]:
    """Return the commits of the last try of this name, if it has not finished."""
    folders = locks.tries(experiment.output_dir, run_name(experiment))
    if not folders or experiment.resume is Resume.never:
        return {}
    try:
        record = locks.record_of(folders[-1])
    except RecordError:  # whoever opens it says so
        return {}
    if record is None or record.status == "finished":
        return {}
    found = {"": record.base.get("commit")} | {split: about.get("commit") for split, about in record.data.items()}
    hub = _on_hub(experiment)
    return {repositories.key_of(hub[name]): commit for name, commit in found.items() if commit and name in hub}


def _on_hub(experiment: schema.Experiment) -> dict[str, Source]:
    """Return the repositories of the hub that a run is made from, by the names of splits; the model's by none."""
    tasks = experiment.stages or {"": experiment.task}
    found = {
        f"{stage}/{split}" if stage else split: on_hub(task, experiment.data_dir)
        for stage, task in tasks.items()
        for split in SPLITS
    }
    found[""] = sources.on_hub(experiment.model)
    return {name: source for name, source in found.items() if source}


def _made_from(experiment: schema.Experiment, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    settings, first = schema.as_data(experiment), next(iter(experiment.stages.values()), experiment.task)
    texts = task_metrics.texts(first)
    if data is not None:
        return made_from(settings, data, base_of(experiment), texts)
    train = settings["train"]
    chosen = [train["max_rows"], train["selection"], train["selection_seed"]]
    rows = [settings["stages"] or settings["task"], settings["data_dir"], *chosen]
    files = [
        (str(path.resolve()), path.stat().st_mtime_ns, path.stat().st_size)
        for task in experiment.stages.values() or [experiment.task]
        for path in files_of(task, experiment.data_dir)
        if path.exists()
    ]
    key = json.dumps([rows, files, sorted(map(str, repositories.pinned().items()))], sort_keys=True)
    if key not in _SEEN:
        _SEEN[key] = reading.about_all(reading.read_all(experiment))
    return made_from(settings, _SEEN[key], base_of(experiment), texts)


_SEEN: dict[str, dict[str, Any]] = {}
"""What was read once, without the rows: the jobs of a sweep share data."""
