"""A value of each example whose mean is the score, so that two models are compared example by example; no torch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molex_cli.metrics.base import METRICS, ByExample
from molex_cli.records.predictions import VALUES


def of_rows(
    rows: Sequence[Mapping[str, Any]], metric: str, labels: Sequence[str] | None = None, positive: str | None = None
) -> NDArray[np.float64] | None:
    """Return each prediction's own score or, of a metric that is no mean, its jackknife pseudo-value.

    `labels` are in the order of their class index, of which `positive` is the second unless it is given. None where the
    metric has no values by example, or is undefined without one of the examples. Those of a metric that is none of
    molex's own stand in the rows.
    """
    if all(metric in (row.get(VALUES) or {}) for row in rows) and rows:
        return np.array([row[VALUES][metric] for row in rows], dtype=np.float64)
    known = METRICS.get(metric)
    if known is None or known.by_example is ByExample.no or not rows:
        return None
    predictions, references = as_indices(rows, labels or [])
    score = partial(known.score, positive=list(labels).index(positive) if labels and positive is not None else 1)
    if known.by_example is ByExample.jackknife:
        values = pseudo_values(score, predictions, references)
    else:
        pairs = zip(predictions, references, strict=True)
        values = np.array([score([p], [r]) for p, r in pairs], dtype=np.float64)
    return values if np.isfinite(values).all() else None


def as_indices(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Return predictions and references; labels as their class index, -1 where no label was predicted."""
    predictions: list[Any] = [row["prediction"] for row in rows]
    references: list[Any] = [row.get("label") for row in rows]
    if isinstance(references[0], list):  # texts, any number for each example; the jackknife needs what can be hashed
        return predictions, [tuple(some) for some in references]
    if not isinstance(references[0], str):
        return predictions, references
    # Answers may be named by letters instead of labels.
    others = sorted({*predictions, *references} - {*labels, None})
    index = {None: -1} | {name: i for i, name in enumerate([*labels, *others])}
    return [index[name] for name in predictions], [index[name] for name in references]


def pseudo_values(
    score: Callable[[Any, Any], float], predictions: Sequence[Any], references: Sequence[Any]
) -> NDArray[np.float64]:
    """Return a value for each example whose mean is the score, though the score is no mean over examples.

    The jackknife's n θ - (n - 1) θ without the example (Tukey 1958), moved so that the mean is θ itself: what an
    example contributes, so that such scores are compared over seeds and examples as accuracies are. NaN where the
    score is undefined without an example.
    """
    count = len(references)
    whole = score(predictions, references)
    without: dict[tuple[Any, Any], float] = {}
    left = []
    for i, pair in enumerate(zip(predictions, references, strict=True)):
        if pair not in without:  # what is equal changes the score equally
            rest = [*predictions[:i], *predictions[i + 1 :]], [*references[:i], *references[i + 1 :]]
            without[pair] = score(*rest)
        left.append(without[pair])
    values = count * whole - (count - 1) * np.asarray(left)
    moved: NDArray[np.float64] = values - values.mean() + whole
    return moved
