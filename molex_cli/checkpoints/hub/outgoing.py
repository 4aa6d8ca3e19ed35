"""What of a run leaves the machine: no folder, no account, no command line; no torch."""

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from molex_cli.checkpoints.hub.code import own_metrics
from molex_cli.config import schema
from molex_cli.config.task import SHARED_SPLITS
from molex_cli.metrics.base import METRICS
from molex_cli.records import Record
from molex_cli.records.parts import Attempt, SplitData

UNNAMED = "base_model"
OF_THE_MACHINE = ("host", "pid")  # of a record's environment
ABSOLUTE = re.compile(r"(?<![\w.:/~])(?:~|/)(?:[^\s,;:'\"()]*/)?([^\s,;:'\"()/]+)")
"""A path from the root or the home folder, in a sentence; addresses with `//` and `and/or` are none."""


def public_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings without folders of this machine and without where it was logged.

    A folder or file that decides what is computed keeps its name: a base model, one's own rows. Metrics that are code
    of somebody else are left out: whoever opens the run would have to run it.
    """
    found = copy.deepcopy(dict(settings))
    found |= {"data_dir": None, "cache_dir": None, "output_dir": schema.Experiment.output_dir}
    found["log"] = schema.as_data(schema.Log())
    _name_base(found["model"])
    for task in (found["task"], *(found.get("stages") or {}).values()):
        _name_files(task)
        if any(name not in METRICS for name in task.get("metrics") or ()):
            task |= own_metrics(task["metrics"], task.get("kind", "classification"))
    allocation = found["method"].get("allocation") or {}
    if allocation.get("from_run"):
        allocation["from_run"] = _name(allocation["from_run"])
    return found


def public_record(record: Record) -> Record:
    """Return a record as others may read it: settings as above, no host, no command, no folder in any sentence."""
    environment: Any = {key: value for key, value in record.environment.items() if key not in OF_THE_MACHINE}
    attempts: list[Attempt] = [{"started": each["started"], "status": each["status"]} for each in record.attempts]
    data = {split: _with_named_source(about) for split, about in record.data.items()}
    public = replace(record, command=[], error=None, attempts=attempts, environment=environment, data=data)
    told = {
        name: _without_paths(getattr(public, name))
        for name in ("degenerate", "data", "base", "evaluation", "training", "frozen_layers", "checks", "environment")
    }
    return replace(public, settings=public_settings(record.settings), **told)


def _with_named_source(about: SplitData) -> SplitData:
    """Return what is known of a split, whose file has its name alone, also where a sentence speaks of it."""
    source = about.get("source", "")
    if not _is_local(source):
        return about
    told: Any = {key: each.replace(source, _name(source)) for key, each in about.items() if isinstance(each, str)}
    return {**about, **told}


def _name_base(model: dict[str, Any]) -> None:
    """Leave of a base model's folder its name; a folder that is named as if it were on the hub is one, too."""
    if model.get("hub") and _is_local(model["hub"]):
        model["folder"], model["hub"] = model["hub"], None
    if model.get("folder"):
        model["folder"] = _name(model["folder"])


def _name_files(task: dict[str, Any]) -> None:
    """Leave of one's own files their names, and of official ones what is under data_dir."""
    for section in ("files", "official"):
        files = task.get(section) or {}
        for split in SHARED_SPLITS:
            if files.get(split) and (section == "files" or _is_local(files[split])):
                files[split] = _name(files[split])
    rows = task.get("hub") or {}
    if rows.get("path") and _is_local(rows["path"]):
        rows["path"] = _name(rows["path"])


def _is_local(text: str) -> bool:
    return text.startswith(("/", "~", "."))


def _name(path: str) -> str:
    """Return the last part of a path; the working directory has none."""
    return name if (name := Path(path).name) not in ("", "..") else UNNAMED


def _without_paths(value: Any) -> Any:
    """Return content in which each absolute path in a text is its last part."""
    if isinstance(value, str):
        return ABSOLUTE.sub(r"\1", value)
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return value
