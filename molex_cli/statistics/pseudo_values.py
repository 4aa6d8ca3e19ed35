"""A value of each example whose mean is the score, so that two models are compared example by example; no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molex_cli.metrics.base import METRICS, ByExample
from molex_cli.statistics import paired


def of_rows(
    rows: Sequence[Mapping[str, Any]], metric: str, labels: Sequence[str] | None = None
) -> NDArray[np.float64] | None:
    """Return each prediction's own score or, of a metric that is no mean, its jackknife pseudo-value.

    `labels` are in the order of their class index. None where the metric has no values by example, or is undefined
    without one of the examples.
    """
    known = METRICS.get(metric)
    if known is None or known.by_example is ByExample.no or not rows:
        return None
    predictions, references = _as_indices(rows, labels or [])
    if known.by_example is ByExample.jackknife:
        values = paired.pseudo_values(known.function, predictions, references)
    else:
        pairs = zip(predictions, references, strict=True)
        values = np.array([known.function([p], [r]) for p, r in pairs], dtype=np.float64)
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
