"""Runs as `molex eval` scored them on what is no split of their task: a task of lm-evaluation-harness, or a text."""

import math
from collections.abc import Sequence
from dataclasses import replace

from molex_cli.compare.evaluations import evaluations, rescored
from molex_cli.compare.loading import Run
from molex_cli.errors import RecordError
from molex_cli.metrics.base import ByExample, Metric
from molex_cli.records.evaluation import LANGUAGE, ScoredBy
from molex_cli.records.parts import Score, Scores
from molex_cli.records.run_folder import adapter_name


def known(runs: Sequence[Run], which: str) -> dict[str, set[str]]:
    """Return the tasks and texts on which some of the runs were scored, with their metrics."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for _, each in evaluations(run.folder):
            if each["split"] in LANGUAGE and each["adapter"] == adapter_name(which):
                found.setdefault(each["task"], set()).update(each.get("metrics", {}))
    return found


def scored(run: Run, which: str, name: str, metric: str) -> Run:
    """Return a run with its scores on a task of the harness or a text; raise RecordError where it has none."""
    found = [
        (file, each)
        for file, each in evaluations(run.folder)
        if each["split"] in LANGUAGE and each["task"] == name and each["adapter"] == adapter_name(which)
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
    result = replace(rescored(run, name, file, chosen, scores), scored_by=_metric(metric, metrics[metric]))
    result.values(which, metric)  # damaged predictions are told of now
    return result


def _metric(name: str, about: ScoredBy) -> Metric:
    """Return what a comparison asks of another program's metric, which is not computed again."""
    is_share = about.get("right_or_wrong", False)
    by_example = ByExample.mean if about.get("mean_of_examples") else ByExample.no
    return Metric(
        name=name,
        function=lambda predictions, references: math.nan,
        kinds=(),
        higher_is_better=about.get("higher_is_better", True),
        low=0.0 if is_share else -math.inf,
        high=1.0 if is_share else math.inf,
        by_example=ByExample.right_or_wrong if is_share else by_example,
    )
