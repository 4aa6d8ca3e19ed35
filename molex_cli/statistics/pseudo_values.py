"""A value of each example whose mean is the score, so that two models are compared example by example; no torch."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molex_cli.metrics.base import METRICS, ByExample
from molex_cli.statistics import paired


def of_rows(
    rows: Sequence[Mapping[str, Any]], metric: str, labels: Sequence[str] | None = None, positive: str | None = None
) -> NDArray[np.float64] | None:
    """Return each prediction's own score or, of a metric that is no mean, its jackknife pseudo-value.

    `labels` are in the order of their class index, of which `positive` is the second unless it is given. None where the
    metric has no values by example, or is undefined without one of the examples.
    """
    known = METRICS.get(metric)
    if known is None or known.by_example is ByExample.no or not rows:
        return None
    predictions, references = _as_indices(rows, labels or [])
    score = partial(known.score, positive=list(labels).index(positive) if labels and positive is not None else 1)
    if known.by_example is ByExample.jackknife:
        values = paired.pseudo_values(score, predictions, references)
    else:
        pairs = zip(predictions, references, strict=True)
        values = np.array([score([p], [r]) for p, r in pairs], dtype=np.float64)
    return values if np.isfinite(values).all() else None


def _as_indices(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> tuple[list[Any], list[Any]]:
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
