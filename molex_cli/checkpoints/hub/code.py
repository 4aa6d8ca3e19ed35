"""Metrics that are somebody's code: they are not sent to the hub, nor run for what comes from there; no torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from molex_cli.checkpoints.hub.opening import fetched_into
from molex_cli.config.schema import Experiment
from molex_cli.config.task import Task
from molex_cli.metrics.base import METRICS

NONE: dict[str, Any] = {"metric_files": [], "metric_arguments": {}, "higher_is_better": [], "lower_is_better": []}


def own_metrics(names: Sequence[str], kind: str) -> dict[str, Any]:
    """Return the settings of a task that is scored by those of some metrics which are molex's own, or by its first."""
    fitting = [name for name, metric in METRICS.items() if kind in metric.kinds and not metric.not_computed]
    return {"metrics": [name for name in names if name in METRICS] or fitting[:1], **NONE}


def without_code(file: Path, experiment: Experiment) -> Experiment:
    """Return the experiment of an adapter file; of one from the hub with the metrics that are molex's own alone."""
    if fetched_into().resolve() not in file.parent.resolve().parents:  # the file itself is a link
        return experiment
    stages = {name: _without_code(stage) for name, stage in experiment.stages.items()}
    return replace(experiment, task=_without_code(experiment.task), stages=stages)


def _without_code(task: Task) -> Task:
    return replace(task, **own_metrics(task.metrics, task.kind.name))
