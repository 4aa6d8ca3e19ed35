"""Scores of predicted classes."""

import math
from collections import Counter
from collections.abc import Sequence

from molex_cli.metrics.base import ByExample, metric


@metric("classification", "multiple_choice", by_example=ByExample.right_or_wrong)
def accuracy(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the share of predictions that equal their reference."""
    return sum(p == r for p, r in zip(predictions, references, strict=True)) / len(references)


@metric("classification", of_one_class=True, by_example=ByExample.jackknife)
def f1(predictions: Sequence[int], references: Sequence[int], positive: int = 1) -> float:
    """Return the F1 score of the positive one of two classes; NaN if it never occurs."""
    pairs = list(zip(predictions, references, strict=True))
    hits = sum(p == r == positive for p, r in pairs)
    total = sum(p == positive for p, _ in pairs) + sum(r == positive for _, r in pairs)
    return 2 * hits / total if total else math.nan


@metric("classification", by_example=ByExample.jackknife)
def f1_macro(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the mean of the F1 scores of all classes that are predicted or right anywhere."""
    predicted, actual = Counter(predictions), Counter(references)
    hits = Counter(p for p, r in zip(predictions, references, strict=True) if p == r)
    classes = sorted({*predicted, *actual})
    return sum(2 * hits[k] / (predicted[k] + actual[k]) for k in classes) / len(classes)


@metric("classification", low=-1.0, by_example=ByExample.jackknife)
def matthews(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the Matthews correlation of any number of classes (Gorodkin 2004); NaN if undefined."""
    count = len(references)
    correct = sum(p == r for p, r in zip(predictions, references, strict=True))
    predicted, actual = Counter(predictions), Counter(references)
    covariance = correct * count - sum(predicted[k] * actual[k] for k in actual)
    spread = (count**2 - sum(n**2 for n in predicted.values())) * (count**2 - sum(n**2 for n in actual.values()))
    return covariance / math.sqrt(spread) if spread else math.nan
