"""What a model must beat: the best score that one answer to every row of a split reaches."""

import statistics
from collections.abc import Sequence
from typing import Any

from molex_cli.metrics.base import METRICS, compute_scores


def best_constant(names: Sequence[str], references: Sequence[Any], positive: int = 1) -> dict[str, float]:
    """Return each named score of the constant that is best by it; none where it is undefined for every constant.

    The constants are the labels that occur; of numbers the mean, best by squared error, and the median, best by
    absolute error.
    """
    numbers = isinstance(references[0], float)
    answers = [statistics.fmean(references), statistics.median(references)] if numbers else sorted(set(references))
    best: dict[str, float] = {}
    for answer in answers:
        for name, score in compute_scores(names, [answer] * len(references), references, positive).items():
            if METRICS[name].better(score, best.get(name)):
                best[name] = score
    return best
