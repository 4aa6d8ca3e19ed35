"""Paired tests, intervals and what a comparison could have shown; no torch.

Arms are compared on the same seeds and the same examples, so every test here is a paired one. S seeds,
E examples, R resamples.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from molex_cli.errors import ConfigError

Floats = NDArray[np.float64]
MOST_EXACT_SEEDS = 20  # all their sign patterns are enumerated; of more seeds' patterns some are drawn
RESAMPLES = 10_000
TIE = 1e-12  # differences this close count as equal


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float
    p: float = math.nan
    """Two-sided p of the estimate being zero, from the same statistic as the interval; NaN where there is none."""
    error: float = math.inf
    """Standard error."""
    degrees_of_freedom: float = 0.0
    """Of Student's t."""
    of_seeds: float = 0.0
    """The part of the error's square that more seeds would make smaller."""


def sign_permutation(differences: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p of the exact paired permutation test: all sign patterns of the differences over seeds.

    Under the null each difference is as likely to have the other sign (Fisher's randomisation). Beyond 20 seeds
    patterns are drawn, the observed one counted among them. No seeds at all say nothing: p is 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        return 1.0
    observed = abs(values.sum()) - TIE * len(values)
    if len(values) <= MOST_EXACT_SEEDS:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= observed).mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(RESAMPLES, len(values)))
    return float((1 + (np.abs(signs @ values) >= observed).sum()) / (1 + RESAMPLES))


def smallest_p(num_seeds: int) -> float:
    """Return the smallest two-sided p that so many paired seeds can reach: 2 / 2**S, so 0.0625 for five."""
    return min(1.0, 2.0 ** (1 - num_seeds))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test: examples that only one of two models gets right.

    The exact binomial test with probability 1/2; 1 where no example distinguishes the models. Both tails are equal but
    for rounding.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if 2 * fewer == total:
        return 1.0
    from scipy.stats import binom  # a second of importing, which tables without right and wrong do not wait for

    return min(1.0, float(binom.cdf(fewer, total, 0.5) + binom.sf(total - fewer - 1, total, 0.5)))


def seed_interval(differences: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean difference over seeds with Student's interval; infinite for fewer than two seeds."""
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return Interval(mean, -math.inf, math.inf, 1.0)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return _student(mean, error, len(values) - 1, confidence, error**2)


def example_interval(differences: Floats | Sequence[float], confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean difference over examples with the percentile interval of the paired bootstrap."""
    values = np.asarray(differences, dtype=np.float64)
    if not len(values) or np.ptp(values) < TIE:  # where nothing varies there is nothing to judge by
        return Interval(float(values.mean()) if len(values) else math.nan, -math.inf, math.inf)
    # Equal differences are drawn together: accuracies have only three.
    distinct, counts = np.unique(values, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=RESAMPLES)
    means = draws @ distinct / len(values)
    low, high = np.quantile(means, _tails(confidence))
    return Interval(float(values.mean()), float(low), float(high))


def pseudo_values(score: Callable[[Any, Any], float], predictions: Sequence[Any], references: Sequence[Any]) -> Floats:
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
    moved: Floats = values - values.mean() + whole
    return moved


def crossed_interval(differences_SE: Floats, confidence: float = 0.95) -> Interval:
    """Return the mean of differences [S, E] with an interval for new seeds and new examples at once.

    Every seed is scored on the same examples, so both are random and crossed. The variance of the mean is that over
    seeds plus that over examples less the residual that both contain (two-way random effects); Student's t has
    Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946). A percentile bootstrap over both covers far too
    little for the three to five seeds that people have.
    """
    table = np.asarray(differences_SE, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise ConfigError(f"differences must be a table of seeds and examples, got the shape {list(table.shape)}")
    num_seeds, num_examples = table.shape
    mean = float(table.mean())
    if num_seeds < 2 or num_examples < 2:
        return Interval(mean, -math.inf, math.inf, 1.0)
    seeds, examples = table.mean(1), table.mean(0)
    left = table - seeds[:, None] - examples[None] + mean
    of_seeds, of_examples = float(seeds.var(ddof=1)) / num_seeds, float(examples.var(ddof=1)) / num_examples
    degrees_of_freedom = (num_seeds - 1) * (num_examples - 1)
    residual = float((left**2).sum()) / degrees_of_freedom / table.size
    variance = max(of_seeds + of_examples - residual, of_seeds, of_examples)
    if variance < TIE:
        return _student(mean, 0.0, 1, confidence, 0.0)
    spread = of_seeds**2 / (num_seeds - 1) + of_examples**2 / (num_examples - 1) + residual**2 / degrees_of_freedom
    return _student(mean, math.sqrt(variance), variance**2 / spread, confidence, min(of_seeds, variance))


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Return the p-values adjusted for their family so that the chance of any false finding is kept (Holm 1979).

    `family` counts tests that were possible but not made, too, as when the best of several arms is picked out.
    """
    size = max(family or 0, len(p_values))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (size - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Return the p-values adjusted so that the share of false findings is kept (Benjamini and Hochberg 1995).

    Tests of the family that were not made count as if they had found nothing.
    """
    if not len(p_values):
        return []
    known = [1.0 if math.isnan(p) else p for p in p_values]
    others = [1.0] * max(0, (family or 0) - len(known))
    from scipy import stats

    return [float(p) for p in stats.false_discovery_control([*known, *others])][: len(known)]


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
    interval: Interval, num_seeds: int, alpha: float = 0.05, wanted: float = 0.8, most: int = 10_000
) -> int | None:
    """Return how many seeds would find the interval's own difference with the wanted power; None beyond `most`.

    More seeds leave the part of the error that comes from the examples as it is. At least as many as it takes for
    the permutation test to reach alpha at all.
    """
    if not math.isfinite(interval.error):
        return None
    rest = max(0.0, interval.error**2 - interval.of_seeds)

    def reached(count: int) -> float:
        error = math.sqrt(interval.of_seeds * num_seeds / count + rest)
        degrees_of_freedom = count - 1 if rest < TIE else max(count - 1, interval.degrees_of_freedom)
        return power(interval.estimate, error, degrees_of_freedom, alpha)

    low, high = next(n for n in itertools.count(2) if smallest_p(n) < alpha), most
    if reached(high) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= wanted else (middle + 1, high)
    return low


def _student(mean: float, error: float, degrees_of_freedom: float, confidence: float, of_seeds: float) -> Interval:
    """Return the interval of a mean with this standard error and degrees of freedom.

    Where nothing varies there is nothing to judge by: the interval is unknown and p is 1.
    """
    if error < TIE:
        return Interval(mean, -math.inf, math.inf, 1.0)
    half = float(special.stdtrit(degrees_of_freedom, (1 + confidence) / 2)) * error
    p = 2 * float(special.stdtr(degrees_of_freedom, -abs(mean) / error))
    return Interval(mean, mean - half, mean + half, p, error, degrees_of_freedom, of_seeds)


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
