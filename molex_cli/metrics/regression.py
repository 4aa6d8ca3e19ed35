"""Scores of predicted numbers."""

import math
from collections.abc import Sequence

import numpy as np

from molex_cli.metrics.base import ByExample, metric


@metric("regression", low=-1.0, by_example=ByExample.jackknife)
def pearson(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Return the Pearson correlation; NaN if one side is constant."""
    if _constant(predictions, references):
        return math.nan
    return float(np.corrcoef(predictions, references)[0, 1])


@metric("regression", low=-1.0, by_example=ByExample.jackknife)
def spearman(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Return the Spearman rank correlation, equal values at their mean rank; NaN if one side is constant."""
    if _constant(predictions, references):
        return math.nan
    from scipy.stats import spearmanr

    return float(spearmanr(predictions, references).statistic)


def _constant(predictions: Sequence[float], references: Sequence[float]) -> bool:
    return len(set(predictions)) < 2 or len(set(references)) < 2
