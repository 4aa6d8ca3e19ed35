"""Runs as `molex eval` scored them on what is no split of their task: a task of lm-evaluation-harness, or a text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import filterfalse
from pathlib import Path

from molex_cli.compare.collapse import CONSTANT
from molex_cli.compare.loading import Run
from molex_cli.errors import RecordError
from molex_cli.metrics.base import Metric
from molex_cli.records.evaluation import SplitEvaluation
from molex_cli.records.parts import FAILED, Score, Scores
from molex_cli.records.reading import read_json

ELSEWHERE = ("lm_eval", "text")  # the `split` of these


def evaluations(folder: Path) -> Iterator[tuple[Path, SplitEvaluation]]:
    """Yield what `molex eval` left in a run's folder."""
    for file in sorted((folder / "evaluations").glob("*.json")):
        yield file, read_json(file, "an evaluation of a run", SplitEvaluation)


def known(runs: Sequence[Run], which: str) -> dict[str, set[str]]:
    """Return the tasks and texts on which some of the runs were scored, with their metrics."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for _, each in evaluations(run.folder):
            if each["split"] in ELSEWHERE and each["adapter"] == adapter_name(which):
                found.setdefault(each["task"], set()).update(each.get("metrics", {}))
    return found


def scored(run: Run, which: str, name: str, metric: str) -> Run:
    """Return a run with its scores on a task of the harness or a text; raise RecordError where it has none."""
    found = [
        (file, each)
        for file, each in evaluations(run.folder)
        if each["split"] in ELSEWHERE and each["task"] == name and each["adapter"] == adapter_name(which)
    ]
    score = run.record.evaluated(which)
    step = score.get("step") if score else None
    current = [pair for pair in found if step in (None, pair[1]["step"])]  # it may have been trained further
    if not current:
        why = f" at its step {step}, only at {found[0][1]['step']}" if found else ""
        raise RecordError(f"{run.folder} has no evaluation of its {which} adapter on {name}{why}")
    file, chosen = max(current, key=lambda each: (each[1]["rows_used"], each[0].stat().st_mtime))
    metrics = chosen.get("metrics", {})
    metric = metric or next(iter(metrics), "")
    if metric not in metrics or metric not in chosen["scores"]:
        raise RecordError(f"{run.folder} has no {metric or 'metric'} on {name}, but {', '.join(metrics) or 'none'}")
    own: Score = {"scores": chosen["scores"], "step": chosen["step"]}
    scores: Scores = {"metric": metric, "last": own, "best": own}
    data = {key: about for key, about in run.record.data.items() if not key.endswith("validation")}
    data[name] = {"fingerprint": chosen["fingerprint"], "rows": chosen["rows"], "rows_used": chosen["rows_used"]}
    degenerate = [*chosen["degenerate"], *filterfalse(is_of_predictions, run.record.degenerate)]
    record = replace(run.record, scores=scores, evaluation=chosen["evaluation"], data=data, degenerate=degenerate)
    by = Metric.from_data(metric, metrics[metric])
    found_run = replace(run, record=record, split=name, predictions=predictions_of(file), scored_by=by)
    found_run.values(which, metric)  # damaged predictions are told of now
    return found_run


def is_of_predictions(reason: str) -> bool:
    """Return whether a run is degenerate by its predictions, and not by what it is."""
    return reason == CONSTANT or reason.endswith(" is undefined") or FAILED in reason


def predictions_of(file: Path) -> Path:
    """Return where the examples of an evaluation are."""
    return file.with_name(f"{file.stem}-predictions.jsonl")


def adapter_name(which: str) -> str:
    """Return the name of the adapter's file."""
    return f"adapter-{which}.safetensors"
