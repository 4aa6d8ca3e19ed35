"""Scores as pure functions of predictions and references, each with its direction."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molex_cli.metrics import generation


@dataclass(frozen=True)
class Metric:
    """A named score: its function, the direction that is better, its range."""

    name: str
    function: Callable[[Sequence[Any], Sequence[Any]], float]
    kinds: tuple[str, ...] = ("classification",)
    """The kinds of task that it scores."""
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0

    def better(self, new: float, old: float | None) -> bool:
        """Return whether `new` beats `old`; a score that is undefined beats nothing."""
        if math.isnan(new):
            return False
        return old is None or math.isnan(old) or (new > old if self.higher_is_better else new < old)


def accuracy(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the share of predictions that equal their reference."""
    return sum(p == r for p, r in zip(predictions, references, strict=True)) / len(references)


def f1(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the F1 score of class 1, as GLUE does for MRPC and QQP; NaN if class 1 never occurs."""
    pairs = list(zip(predictions, references, strict=True))
    hits = sum(p == r == 1 for p, r in pairs)
    total = sum(p == 1 for p, _ in pairs) + sum(r == 1 for _, r in pairs)
    return 2 * hits / total if total else math.nan


def matthews(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the Matthews correlation of any number of classes (Gorodkin 2004); NaN if undefined."""
    count = len(references)
    correct = sum(p == r for p, r in zip(predictions, references, strict=True))
    predicted, actual = Counter(predictions), Counter(references)
    covariance = correct * count - sum(predicted[k] * actual[k] for k in actual)
    spread = (count**2 - sum(n**2 for n in predicted.values())) * (count**2 - sum(n**2 for n in actual.values()))
    return covariance / math.sqrt(spread) if spread else math.nan


def pearson(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Return the Pearson correlation; NaN if one side is constant."""
    if len(set(predictions)) < 2 or len(set(references)) < 2:
        return math.nan
    return float(np.corrcoef(predictions, references)[0, 1])


def spearman(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Return the Spearman rank correlation, equal values at their mean rank; NaN if one side is constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(predictions).tolist(), rankdata(references).tolist())


def overall_performance(matrix: Sequence[Sequence[float]]) -> float:
    """Return OP, the mean score of all tasks after the last; matrix[k][i] is that of task i after learning task k."""
    return sum(matrix[-1]) / len(matrix)


def performance_drop(matrix: Sequence[Sequence[float]]) -> float:
    """Return PD, the mean change of an earlier task by learning one more (MoLA, appendix C); negative is forgetting."""
    changes = [matrix[k][i] - matrix[k - 1][i] for k in range(1, len(matrix)) for i in range(k)]
    return sum(changes) / len(changes)


def backward_transfer(matrix: Sequence[Sequence[float]]) -> float:
    """Return BWT, the mean change of the earlier tasks from when they were learned to the end."""
    changes = [matrix[-1][i] - matrix[i][i] for i in range(len(matrix) - 1)]
    return sum(changes) / len(changes)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, ("classification", "multiple_choice")),
        Metric("f1", f1),
        Metric("matthews", matthews, low=-1.0),
        Metric("bleu", generation.bleu, ("generation",), high=100.0),
        Metric("nist", generation.nist, ("generation",), high=math.inf),
        Metric("rouge_l", generation.rouge_l, ("generation",), high=100.0),
        *(Metric(name, generation.not_computed, ("generation",), high=math.inf) for name in generation.NOT_COMPUTED),
        Metric("pearson", pearson, ("regression",), low=-1.0),
        Metric("spearman", spearman, ("regression",), low=-1.0),
    )
}


def scores(names: Sequence[str], predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """Return each named score of the predictions."""
    computed = [name for name in names if name not in generation.NOT_COMPUTED]
    return {name: METRICS[name].function(predictions, references) for name in computed}


def majority(names: Sequence[str], train: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """Return each named score of always predicting the most frequent training label."""
    label = Counter(train).most_common(1)[0][0]
    return scores(names, [label] * len(references), references)
