"""P-values of several tests, adjusted for their number; a test without a p (NaN) is none; no torch."""

import math
from collections.abc import Callable, Sequence


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Return the p-values adjusted for their family so that the chance of any false finding is kept (Holm 1979).

    `family` counts tests that were possible but not made, too, as when the best of several arms is picked out.
    """

    def adjusted(known: Sequence[float]) -> list[float]:
        size = max(family or 0, len(known))
        found, largest = dict[int, float](), 0.0
        for rank, i in enumerate(sorted(range(len(known)), key=lambda i: known[i])):
            largest = max(largest, min(1.0, (size - rank) * known[i]))
            found[i] = largest
        return [found[i] for i in range(len(known))]

    return _of_known(p_values, adjusted)


def benjamini_hochberg(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Return the p-values adjusted so that the share of false findings is kept (Benjamini and Hochberg 1995).

    Tests of the family that were not made count as if they had found nothing.
    """

    def adjusted(known: Sequence[float]) -> list[float]:
        from scipy import stats  # a second of importing, which most tables do not wait for

        others = [1.0] * max(0, (family or 0) - len(known))
        return [float(p) for p in stats.false_discovery_control([*known, *others])][: len(known)]

    return _of_known(p_values, adjusted)


def _of_known(p_values: Sequence[float], adjusted: Callable[[Sequence[float]], list[float]]) -> list[float]:
    known = [p for p in p_values if not math.isnan(p)]
    found = iter(adjusted(known) if known else [])
    return [p if math.isnan(p) else next(found) for p in p_values]
