"""The run record: what it holds, how it is written and read, and the id of its variant; no torch."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from molex_cli.errors import RecordError
from molex_cli.records.files import as_json, write_text
from molex_cli.records.parts import (
    Attempt,
    Base,
    Correctness,
    Count,
    Environment,
    Evaluation,
    Failure,
    FrozenLayers,
    LayerNumber,
    LayerUse,
    Number,
    Score,
    Scores,
    Sections,
    SplitData,
    Status,
    Training,
)
from molex_cli.records.reading import Misfit, read_json, require_fitting
from molex_cli.records.renamed import first_settings, record_of_today

RECORD_VERSION = 1
# Settings of how and where a run is made, not of what it computes.
HOW_ONLY = (
    "log",
    "collapse",
    "data_dir",
    "output_dir",
    "cache_dir",
    "cache_gb",
    "resume",
    "fail_fast",
    "isolate",
    "keep",
    "checkpoint_every",
)
NOT_IN_VARIANT = ("seed", "preset", "hardware", "experiment", *HOW_ONLY)
NUMBER_FORMATS = ("precision", "base")  # what of the hardware changes a run's numbers by more than rounding


@dataclass(kw_only=True)
class Record:
    """Everything a comparison needs to know of one run."""

    version: int = RECORD_VERSION
    name: str
    """`task method model`, for people."""
    status: Status = "running"
    """Imported where another program trained."""
    variant: str
    """Hash of the settings that define the arm: no seed, hardware, logging or paths."""
    seed: Count
    settings: dict[str, Any]
    display: dict[str, str] = field(default_factory=dict)
    """Names for tables and plots."""
    started: str = ""
    finished: str | None = None
    """ISO 8601, UTC."""
    command: list[str] = field(default_factory=list)
    scores: Scores = field(default_factory=Scores)
    degenerate: list[str] = field(default_factory=list)
    """Why the score means nothing: a constant prediction, an undefined metric, a failed check."""
    parameters: dict[str, Count] = field(default_factory=dict)
    """Exact counts by part; `trainable`, `added` (trainable without the head), `total`."""
    experts_per_layer: list[Count] | None = None
    rank_per_layer: list[Count] | None = None
    """Of LoRA with an allocation."""
    flops_per_token: dict[str, Number] = field(default_factory=dict)
    """Forward pass: `base`, `active` (chosen experts only), `computed` (as executed)."""
    data: dict[str, SplitData] = field(default_factory=dict)
    """By split."""
    base: Base = field(default_factory=Base)
    evaluation: Evaluation = field(default_factory=Evaluation)
    training: Training = field(default_factory=Training)
    frozen_layers: FrozenLayers = field(default_factory=FrozenLayers)
    memory_bytes: dict[str, Count] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    """Self-checks: gradient_flow, reload, finite."""
    routing: dict[LayerNumber, LayerUse] = field(default_factory=dict)
    """By layer, at the last evaluation."""
    environment: Environment = field(default_factory=Environment)
    error: Failure | None = None
    """Of a run that failed."""
    attempts: list[Attempt] = field(default_factory=list)
    """Earlier tries of a resumed run."""
    folder = cast("Path | None", None)
    """Where the run lies, once its own file was read or written. No field: a folder may be moved, its file says the
    same."""

    def evaluated(self, which: str) -> Score | None:
        """Return the last or the best evaluation, if there is one."""
        return self.scores.get("best") if which == "best" else self.scores.get("last")


KEYS = frozenset(each.name for each in fields(Record))


def write_record(folder: Path, record: Record) -> Path:
    """Write record.json into the run's folder and return its path."""
    path = folder / "record.json"
    write_text(path, as_json(asdict(record), indent=2) + "\n")
    record.folder = folder
    return path


def read_record(folder: Path) -> Record:
    """Read a run's record; raise RecordError when it is missing, broken or of another version."""
    path = folder / "record.json" if folder.is_dir() else folder
    content = read_json(path, "the record of a run", dict[str, Any])
    if content.get("version") != RECORD_VERSION:
        raise RecordError(f"{path} must be a record of version {RECORD_VERSION}, got {content.get('version')!r}")
    try:
        found = record_from(content)
    except Misfit as error:
        raise RecordError(f"{path} is not the record of a run, or is damaged: {error}") from None
    found.folder = path.parent
    return found


def record_from(content: Mapping[str, Any]) -> Record:
    """Return the record that plain data are, checked whole; raise Misfit where they are none."""
    try:
        found = {key: value for key, value in record_of_today(content).items() if key in KEYS}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Misfit(f"{type(error).__name__} {error}") from None
    require_fitting(found, Record)
    require_fitting(found["settings"], Sections)
    record = Record(**found)
    if problem := _problem(record):
        raise Misfit(problem)
    return record


def _problem(record: Record) -> str:
    """Return what is wrong with a record whose types are right."""
    for started in (record.started, *(attempt["started"] for attempt in record.attempts)):
        if started and not is_moment(started):
            return f"`started` must be a moment with its time zone, got {started!r}"
    for each in (record.evaluated("last"), record.evaluated("best")):
        kept = each.get("correctness") if each else None
        if kept and _bytes_in(kept["right"]) != -(-kept["count"] // 8):
            return f"`correctness` must have a bit for each of its {kept['count']} examples"
    return ""


def _bytes_in(base64_text: str) -> float:
    """Return how many bytes a text holds; no whole number of a text that was cut."""
    return len(base64_text) * 3 / 4 - base64_text.count("=")


def is_moment(text: str) -> bool:
    """Return whether a text is a time with its zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def variant_id(settings: Mapping[str, Any]) -> str:
    """Return the hash of the settings that define an arm of a comparison."""
    defining = {key: value for key, value in first_settings(settings).items() if key not in NOT_IN_VARIANT}
    return hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()[:12]


def correctness(rows: Sequence[Mapping[str, Any]]) -> Correctness | None:
    """Return which predictions are right, a bit for each, with a hash of their ids; None where none is right or wrong.

    It lets a comparison pair thousands of runs example by example without opening their predictions.
    """
    if not rows or not all(isinstance(row.get("label"), str) for row in rows):
        return None
    right = [row["prediction"] == row["label"] for row in rows]
    padded = right + [False] * (-len(right) % 8)
    packed = bytes(int("".join("01"[bit] for bit in padded[i : i + 8]), 2) for i in range(0, len(padded), 8))
    return {"ids": identity_of(rows), "count": len(right), "right": base64.b64encode(packed).decode()}


def identity_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a hash of the rows' ids, in order."""
    return hashlib.sha256("\n".join(str(row["id"]) for row in rows).encode()).hexdigest()[:16]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested content by full key."""
    by_key: dict[str, Any] = {}
    _flatten(value, prefix, by_key)
    return by_key


def _flatten(value: Any, prefix: str, by_key: dict[str, Any]) -> None:
    if not isinstance(value, dict) or not value:
        by_key[prefix] = value
        return
    for name, item in value.items():
        _flatten(item, f"{prefix}.{name}" if prefix else str(name), by_key)
