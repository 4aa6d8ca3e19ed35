"""Scores by metrics that are none of molex's own: taken from prediction rows, which stay where such a metric fails."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from molex_cli.config.task import Kind, Task
from molex_cli.config.task_metrics import LIBRARY, arguments_of, inside, library_file_problems, metric_of, outside
from molex_cli.data.encoding import Encoded
from molex_cli.errors import ConfigError, MetricError, all_of
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import ByExample, Metric, compute_scores
from molex_cli.metrics.constant import best_constants
from molex_cli.metrics.own_files import checked
from molex_cli.objectives import evaluate_library
from molex_cli.objectives.base import Objective, Predictions
from molex_cli.records.parts import FAILED
from molex_cli.records.predictions import VALUES
from molex_cli.statistics.pseudo_values import as_indices, pseudo_values

TRIED = 32  # rows of a trial


def metrics(task: Task) -> list[Metric]:
    """Return the metrics of a task that are none of molex's own, ready to compute; raise ConfigError where one is not.

    Each fault of theirs is a MetricError.
    """
    found = all_of({name: partial(_ready, task, name) for name in outside(task)})
    return list(found.values())


def _ready(task: Task, name: str) -> Metric:
    metric, arguments = metric_of(task, name), arguments_of(task, name)
    if name.startswith(LIBRARY):
        if found := list(library_file_problems(task, name)):
            raise ConfigError([f"task{problem}" for problem in found])
        metric = evaluate_library.loaded(metric, arguments)
        arguments = {key: value for key, value in arguments.items() if key not in evaluate_library.LOADED_WITH}
    return checked(metric, arguments)


def require_working(task: Task, references: Sequence[Any]) -> None:
    """Raise ConfigError unless each such metric scores some rows that are predicted as they should be."""
    few = references[:TRIED]
    right = [each[0] if isinstance(each, tuple | list) else each for each in few]
    for metric in metrics(task):
        try:
            metric.score(right, few)
        except MetricError as error:
            raise ConfigError(f"task.metrics must work on {len(few)} rows that are right, got: {error}") from error


def predictions(
    objective: Objective, adapted: Adapted, encoded: Encoded, task: Task, batch_size: int, device: torch.device
) -> Predictions:
    """Score a split by all metrics of its task; a metric that fails leaves its score undefined, and the reason."""
    found = objective.predictions(adapted, encoded, inside(task), batch_size, device)
    own = metrics(task)
    if not own:
        return found
    predicted, references = as_indices(found.rows, list(getattr(objective, "labels", [])))
    scores, failed = scored(own, predicted, references)
    everything = {**found.scores, **scores}
    ordered = {name: everything[name] for name in task.metrics if name in everything}
    values = {each.name: by_row for each in own if (by_row := by_example(each, predicted, references))}
    rows = [{**row, VALUES: {name: of[i] for name, of in values.items()}} for i, row in enumerate(found.rows)]
    return replace(
        found,
        rows=rows if values else found.rows,
        scores={**ordered, **everything},
        unanswered=(*found.unanswered, *failed),
    )


def scored(
    own: Sequence[Metric], predicted: Sequence[Any], references: Sequence[Any]
) -> tuple[dict[str, float], list[str]]:
    """Return the score of each metric, NaN of one that fails, and why those failed."""
    scores, failed = {}, []
    for metric in own:
        try:
            scores[metric.name] = metric.score(predicted, references)
        except MetricError as error:
            scores[metric.name] = math.nan
            failed.append(failure(metric.name, str(error)))
    return scores, failed


def failure(name: str, reason: str) -> str:
    """Return what a record says of a metric that failed."""
    return f"{name}{FAILED}{reason}; once it is mended, molex eval scores the run again"


def by_example(metric: Metric, predicted: Sequence[Any], references: Sequence[Any]) -> list[float]:
    """Return a value of each example whose mean is the score; nothing where there is none."""
    try:
        found = metric.found(predicted, references)
        if isinstance(found, float):
            is_split = metric.by_example is ByExample.jackknife
            found = pseudo_values(metric.score, predicted, references).tolist() if is_split else []
    except MetricError:  # without one of the examples
        return []
    return list(found) if all(map(math.isfinite, found)) else []


def baseline(objective: Objective, encoded: Encoded, task: Task, names: Sequence[str]) -> dict[str, float]:
    """Return the best scores that the same answer to every row of a split reaches."""
    found = objective.baseline([name for name in names if name in inside(task)], encoded)
    return found if task.kind is Kind.generation else found | constants(task, names, encoded.labels)


def constants(task: Task, names: Sequence[str], references: Sequence[Any]) -> dict[str, float]:
    """Return the same by those of the metrics that are none of molex's own."""
    return best_constants([each for each in metrics(task) if each.name in names], references)


def scores_of(
    task: Task, names: Sequence[str], predicted: Sequence[Any], references: Sequence[Any], positive: int
) -> dict[str, float]:
    """Return each named score of predictions, whosoever's metric it is."""
    found = compute_scores([name for name in names if name in inside(task)], predicted, references, positive)
    return found | scored([each for each in metrics(task) if each.name in names], predicted, references)[0]


def described(task: Task) -> Mapping[str, Any]:
    """Return what a record keeps of such metrics, for those who compare runs without them."""
    return {each.name: each.as_data() for each in metrics(task)}
