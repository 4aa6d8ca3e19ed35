"""What a comparison could have shown, and what it would take; no torch."""

import math
from functools import cache

from scipy import special

from molex_cli.statistics.intervals import LEAST_SEEDS, TIE, Interval


def power(effect: float, error: float, degrees_of_freedom: float, alpha: float = 0.05) -> float:
    """Return the chance that a t-test finds a mean difference with this standard error and degrees of freedom."""
    if error < TIE:
        return 1.0 if effect else alpha
    shift, edge = effect / error, special.stdtrit(degrees_of_freedom, 1 - alpha / 2)
    above = 1 - special.nctdtr(degrees_of_freedom, shift, edge)
    chance = above + special.nctdtr(degrees_of_freedom, shift, -edge)
    return float(chance) if math.isfinite(chance) else 1.0  # scipy gives up where the effect is beyond doubt


def detectable_effect(interval: Interval, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """Return the smallest difference that a test with this error finds with the wanted power; inf if none is known."""
    if not math.isfinite(interval.error):
        return math.inf
    return interval.error * _detectable(interval.degrees_of_freedom, alpha, wanted)


@cache
def _detectable(degrees_of_freedom: float, alpha: float, wanted: float) -> float:
    """Return the same in units of the error, of which two arms with the same seeds have the same degrees of freedom."""
    from scipy import optimize

    top = 1.0
    while power(top, 1.0, degrees_of_freedom, alpha) < wanted:
        top *= 2
    return float(optimize.brentq(lambda effect: power(effect, 1.0, degrees_of_freedom, alpha) - wanted, 0.0, top))


def seeds_needed(
    effect: float, interval: Interval, num_seeds: int, alpha: float = 0.05, wanted: float = 0.8, most: int = 10_000
) -> int | None:
    """Return how many seeds would find a difference of this size with the wanted power; None beyond `most`.

    The interval, over `num_seeds`, tells how much seeds and examples vary. More seeds leave the part of the error that
    comes from the examples as it is.
    """
    if not math.isfinite(interval.error) or num_seeds < 2:
        return None
    rest = max(0.0, interval.error**2 - interval.of_seeds)

    def reached(count: int) -> float:
        error = math.sqrt(interval.of_seeds * num_seeds / count + rest)
        return power(effect, error, interval.degrees_of_freedom * (count - 1) / (num_seeds - 1), alpha)

    low, high = LEAST_SEEDS, most
    if reached(high) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= wanted else (middle + 1, high)
    return low
