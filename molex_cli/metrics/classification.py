"""Scores of predicted classes."""

import math
from collections import Counter
from collections.abc import Sequence

from molex_cli.metrics.base import ByExample, metric


@metric("classification", "multiple_choice", by_example=ByExample.right_or_wrong)
def accuracy(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the share of predictions that equal their reference."""
    return sum(p == r for p, r in zip(predictions, references, strict=True)) / len(references)


@metric("classification", by_example=ByExample.jackknife)
def f1(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the F1 score of class 1, as GLUE does for MRPC and QQP; NaN if class 1 never occurs."""
    pairs = list(zip(predictions, references, strict=True))
    hits = sum(p == r == 1 for p, r in pairs)
    total = sum(p == 1 for p, _ in pairs) + sum(r == 1 for _, r in pairs)
    return 2 * hits / total if total else math.nan


@metric("classification", low=-1.0, by_example=ByExample.jackknife)
def matthews(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the Matthews correlation of any number of classes (Gorodkin 2004); NaN if undefined."""
    count = len(references)
    correct = sum(p == r for p, r in zip(predictions, references, strict=True))
    predicted, actual = Counter(predictions), Counter(references)
    covariance = correct * count - sum(predicted[k] * actual[k] for k in actual)
    spread = (count**2 - sum(n**2 for n in predicted.values())) * (count**2 - sum(n**2 for n in actual.values()))
    return covariance / math.sqrt(spread) if spread else math.nan
