"""What each example contributes to a score, so that two models are compared example by example; no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molex_cli.metrics.scores import METRICS
from molex_cli.statistics import paired

JACKKNIFED = ("f1", "matthews", "pearson", "spearman")


def of_rows(
    rows: Sequence[Mapping[str, Any]], metric: str, labels: Sequence[str] | None = None
) -> NDArray[np.float64] | None:
    """Return a value of each prediction whose mean is the score: right or wrong, or its jackknife pseudo-value.

    `labels` are in the order of their class index. None where the score is one of written texts, or undefined without
    one of the examples.
    """
    predictions: list[Any] = [row["prediction"] for row in rows]
    references: list[Any] = [row.get("label") for row in rows]
    if metric == "accuracy":
        return np.array([float(p == r) for p, r in zip(predictions, references, strict=True)])
    if metric not in JACKKNIFED or not rows:
        return None
    if isinstance(references[0], str):
        names = list(labels or sorted({*predictions, *references}))
        predictions = [names.index(name) for name in predictions]
        references = [names.index(name) for name in references]
    values = paired.pseudo_values(METRICS[metric].function, predictions, references)
    return values if np.isfinite(values).all() else None
