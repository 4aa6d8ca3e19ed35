"""What a model must beat: the best score that one answer to every row of a split reaches."""

import statistics
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from molex_cli.errors import MetricError
from molex_cli.metrics.base import Metric, metric_named


def best_constant(names: Sequence[str], references: Sequence[Any], positive: int = 1) -> dict[str, float]:
    """Return each named score of the constant that is best by it; none where it is undefined for every constant.

    The constants are the labels that occur; of numbers the mean, best by squared error, and the median, best by
    absolute error.
    """
    computed = [each for each in map(metric_named, names) if not each.not_computed]
    return best_constants(computed, references, positive)


def best_constants(metrics: Sequence[Metric], references: Sequence[Any], positive: int = 1) -> dict[str, float]:
    """Return the same for metrics of any origin; none of one that fails on every constant."""
    numbers = isinstance(references[0], float)
    answers = [statistics.fmean(references), statistics.median(references)] if numbers else sorted(set(references))
    best: dict[str, float] = {}
    for answer in answers:
        for metric in metrics:
            with suppress(MetricError):
                score = metric.score([answer] * len(references), references, positive)
                if metric.better(score, best.get(metric.name)):
                    best[metric.name] = score
    return best
