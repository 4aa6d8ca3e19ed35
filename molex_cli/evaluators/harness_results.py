"""What lm-evaluation-harness returns as an evaluation of a run: scores, standard errors, a line for each example."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from molex_cli.records.parts import MetricRecord


def described(
    name: str, found: Any, rows: Sequence[Mapping[str, Any]], limit: float | None, seed: int
) -> dict[str, Any]:
    """Return the scores of a task or group with their standard errors, and all that decides them."""
    results = _by_name(found["results"][name])
    counts = found["n-samples"].get(name, {"original": len(rows), "effective": len(rows)})
    return {
        "task": name,
        "seed": seed,
        "scores": {metric: score for metric, (score, _) in results.items()},
        "stderr": {metric: error for metric, (_, error) in results.items()},
        "metrics": {metric: _kind(metric, score, rows, found, name) for metric, (score, _) in results.items()},
        "rows": counts["original"],
        "rows_used": counts["effective"],
        "fingerprint": _digest(f"{row['document']} {row['target']}" for row in rows),
        "protocol": {
            "lm_eval": importlib.metadata.version("lm_eval"),
            "task version": str(found["versions"].get(name)),
            "num_fewshot": found["n-shot"].get(name),
            "limit": limit,
            "seed": seed,
            "prompts": _digest(row["prompt"] for row in rows),
        },
        "answer_mode": found["configs"].get(name, {}).get("output_type", "group"),
    }


def _by_name(results: Mapping[str, Any]) -> dict[str, tuple[float, float | None]]:
    """Return score and standard error by metric, with the filter of the answers in its name where there are several."""
    keys = [key for key in results if "," in key and "_stderr," not in key]
    several = len({key.partition(",")[2] for key in keys}) > 1
    found = {}
    for key in keys:
        metric, _, used = key.partition(",")
        error: Any = results.get(f"{metric}_stderr,{used}")
        if isinstance(results[key], int | float | np.number):
            found[key if several else metric] = float(results[key]), float(error) if _is_number(error) else None
    return found


def _kind(metric: str, score: float, rows: Sequence[Mapping[str, Any]], found: Any, name: str) -> MetricRecord:
    """Return what a comparison must know of a metric: the better end, and whether it is a mean over examples."""
    values = [row["values"].get(metric) for row in rows]
    known = [value for value in values if value is not None]
    is_mean = bool(known) and len(known) == len(values) and abs(sum(known) / len(known) - score) < 1e-9
    higher = found["higher_is_better"].get(name, {}).get(metric.partition(",")[0])
    is_share = is_mean and set(known) <= {0.0, 1.0}
    return {
        "source": "lm-evaluation-harness",
        "digest": "",
        "higher_is_better": higher is not False,
        "low": 0.0 if is_share else None,
        "high": 1.0 if is_share else None,
        "by_example": "right_or_wrong" if is_share else "mean" if is_mean else "no",
        "when_undefined": None,
    }


def rows_of(name: str, found: Any, *, named: bool) -> list[dict[str, Any]]:
    """Return a line for each example: the value that each metric has for it, and what the model answered."""
    samples = found["samples"][name]
    several = len({each["filter"] for each in samples}) > 1
    rows: dict[int, dict[str, Any]] = {}
    for each in samples:
        row = rows.setdefault(
            each["doc_id"],
            {
                "id": f"{name}:{each['doc_id']}" if named else str(each["doc_id"]),
                "values": {},
                "answers": each["filtered_resps"],
                "document": each["doc_hash"][:16],
                "prompt": _digest([json.dumps(each["arguments"], default=str)]),  # with choices and how it is answered
                "target": each["target_hash"][:16],
            },
        )
        for metric in each["metrics"]:
            if _is_number(each[metric]):
                row["values"][f"{metric},{each['filter']}" if several else metric] = float(each[metric])
    return [rows[key] for key in sorted(rows)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
