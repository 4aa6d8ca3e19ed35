"""What a comparison could have shown, and what it would take; no torch."""

import math

from scipy import optimize, stats

from molex_cli.statistics.intervals import LEAST_SEEDS, TIE, Interval


def power(effect: float, error: float, degrees_of_freedom: float, alpha: float = 0.05) -> float:
    """Return the chance that a t-test finds a mean difference with this standard error and degrees of freedom."""
    if error < TIE:
        return 1.0 if effect else alpha
    shift, edge = effect / error, float(stats.t.ppf(1 - alpha / 2, degrees_of_freedom))
    chance = 1 - stats.nct.cdf(edge, degrees_of_freedom, shift) + stats.nct.cdf(-edge, degrees_of_freedom, shift)
    return float(chance) if math.isfinite(chance) else 1.0  # scipy gives up where the effect is beyond doubt


def detectable_effect(interval: Interval, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """Return the smallest difference that a test with this error finds with the wanted power; inf if none is known."""
    if not math.isfinite(interval.error):
        return math.inf
    top = 1.0
    while power(top, 1.0, interval.degrees_of_freedom, alpha) < wanted:
        top *= 2
    return interval.error * float(
        optimize.brentq(lambda effect: power(effect, 1.0, interval.degrees_of_freedom, alpha) - wanted, 0.0, top)
    )


def seeds_needed(
    effect: float, interval: Interval, num_seeds: int, alpha: float = 0.05, wanted: float = 0.8, most: int = 10_000
) -> int | None:
    """Return how many seeds would find a difference of this size with the wanted power; None beyond `most`.

    The interval, over `num_seeds`, tells how much seeds and examples vary. More seeds leave the part of the error that
    comes from the examples as it is.
    """
    if not math.isfinite(interval.error):
        return None
    rest = max(0.0, interval.error**2 - interval.of_seeds)

    def reached(count: int) -> float:
        error = math.sqrt(interval.of_seeds * num_seeds / count + rest)
        degrees_of_freedom = count - 1 if rest < TIE else max(count - 1, interval.degrees_of_freedom)
        return power(effect, error, degrees_of_freedom, alpha)

    low, high = LEAST_SEEDS, most
    if reached(high) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= wanted else (middle + 1, high)
    return low
