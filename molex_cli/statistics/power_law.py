"""The exponent of a power law p(x) ~ x^-exponent in the upper tail of positive numbers."""

import math

import numpy as np

LEAST_TAIL = 50  # values: fewer say little of an exponent (Clauset et al. 2009, section 3)
ZERO = 1e-12  # of the largest value: what is smaller is zero but for rounding


def exponent(values: np.ndarray) -> float:
    """Return the exponent of the tail whose fit has the smallest Kolmogorov-Smirnov distance; 1 where there is none.

    The fit is Hill's, 1 + n / sum(ln(x_i / x_min)) (Hill 1975); the tail begins where Clauset, Shalizi and Newman
    (2009, section 3.3) let it begin. It keeps at least 50 of the values, or half of them where those are fewer.
    """
    ascending = np.sort(np.asarray(values, np.float64))
    ascending = ascending[ascending > ZERO * ascending[-1]] if len(ascending) else ascending
    longest_cut = len(ascending) - max(2, min(LEAST_TAIL, math.ceil(len(ascending) / 2)))
    fits = [_fit(ascending[cut:]) for cut in range(longest_cut + 1)]
    return min(fits, default=(0.0, 1.0))[1]


def _fit(tail: np.ndarray) -> tuple[float, float]:
    """Return the distance between a tail and its own power law, and the exponent of that."""
    above = np.log(tail / tail[0])
    if not above[-1]:
        return math.inf, 1.0
    hill = len(tail) / above.sum()
    expected, steps = 1 - np.exp(-hill * above), np.arange(len(tail) + 1) / len(tail)
    distance = max(np.abs(expected - steps[:-1]).max(), np.abs(expected - steps[1:]).max())
    return float(distance), float(1 + hill)
