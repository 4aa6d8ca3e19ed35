"""The run record: what it holds, how it is written and read, and the id of its variant; no torch."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from molex_cli.errors import RecordError
from molex_cli.records.files import as_json, write_text
from molex_cli.records.renamed import first_settings, record_of_today

RECORD_VERSION = 1
# Settings of how and where a run is made, not of what it computes.
HOW_ONLY = (
    "log",
    "collapse",
    "data_dir",
    "output_dir",
    "cache_dir",
    "resume",
    "fail_fast",
    "isolate",
    "keep",
    "checkpoint_every",
)
NOT_IN_VARIANT = ("seed", "hardware", "experiment", *HOW_ONLY)
NUMBER_FORMATS = ("precision", "base")  # what of the hardware changes a run's numbers by more than rounding


@dataclass(kw_only=True)
class Record:
    """Everything a comparison needs to know of one run."""

    version: int = RECORD_VERSION
    name: str
    """`task method model`, for people."""
    status: str = "running"
    """running, finished, failed or interrupted; imported where another program trained."""
    variant: str
    """Hash of the settings that define the arm: no seed, hardware, logging or paths."""
    seed: int
    settings: dict[str, Any]
    display: dict[str, str] = field(default_factory=dict)
    """Names for tables and plots."""
    started: str = ""
    finished: str | None = None
    """ISO 8601, UTC."""
    command: list[str] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    """`last`, `best`, maybe `first` (untrained) {step, epoch, loss, scores, correctness}; `selection` (rule of best)
    among so many `evaluations`; `constant`, the best that one answer to every row reaches. `correctness` packs which
    predictions were right."""
    degenerate: list[str] = field(default_factory=list)
    """Why the score means nothing: a constant prediction, an undefined metric, a failed check."""
    parameters: dict[str, int] = field(default_factory=dict)
    """Exact counts by part; `trainable`, `added` (trainable without the head), `total`."""
    experts_per_layer: list[int] | None = None
    flops_per_token: dict[str, float] = field(default_factory=dict)
    """Forward pass: `base`, `active` (chosen experts only), `computed` (as executed)."""
    data: dict[str, Any] = field(default_factory=dict)
    """By split: rows, rows used, tokens, fingerprint, source; rows of each of the `labels`, where there is a list of
    them; rows too long, where some were left out."""
    base: dict[str, Any] = field(default_factory=dict)
    """`fingerprint` of the base model's files; none of models from the hub and of random weights."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """`labels` in the order of their class index; `positive`: the one that f1 scores; `answer_mode`; what computed the
    scores, or why they are `not_computed`; `batch_size` and `order` of the rows; `depends_on_batch`: why predictions
    do, or null."""
    training: dict[str, Any] = field(default_factory=dict)
    """Steps, effective batch, tokens, seconds, tokens_per_second, first and last loss; `notes` on fewer steps than
    were asked for."""
    memory_bytes: dict[str, int] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    """Self-checks: gradient_flow, reload, finite."""
    routing: dict[str, Any] = field(default_factory=dict)
    """By layer, at the last evaluation: `usage`, the share of each expert; MoLEx also `entropy` and `margin`."""
    environment: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] | None = None
    """`type`, `message`, `traceback` of a run that failed."""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """Earlier tries of a resumed run: `started`, `finished`, `status`, `error`, `resumed_from_step`."""


def write_record(folder: Path, record: Record) -> Path:
    """Write record.json into the run's folder and return its path."""
    path = folder / "record.json"
    write_text(path, as_json(asdict(record), indent=2) + "\n")
    return path


def read_record(folder: Path) -> Record:
    """Read a run's record; raise RecordError when it is missing, broken or of another version."""
    path = folder / "record.json" if folder.is_dir() else folder
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("version") != RECORD_VERSION:
            raise RecordError(f"{path} must be a record of version {RECORD_VERSION}, got {content.get('version')}")
        return Record(**record_of_today(content))
    except FileNotFoundError:
        raise RecordError(f"{path} must be the record of a run, got no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} must be the record of a run, got a broken file: {error}") from None


def variant_id(settings: Mapping[str, Any]) -> str:
    """Return the hash of the settings that define an arm of a comparison."""
    defining = {key: value for key, value in first_settings(settings).items() if key not in NOT_IN_VARIANT}
    return hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()[:12]


def correctness(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
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
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    by_key: dict[str, Any] = {}
    for name, item in value.items():
        by_key |= flat(item, f"{prefix}.{name}" if prefix else str(name))
    return by_key
