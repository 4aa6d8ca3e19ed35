"""Intervals of a difference between two arms, over seeds, over examples, or over both; no torch.

Arms are compared on the same seeds and the same examples, so every difference is a paired one. K arms, S seeds,
E examples, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from molex_cli.errors import ConfigError

Floats = NDArray[np.float64]
RESAMPLES = 10_000
TIE = 1e-12  # differences this close count as equal
LEAST_SEEDS = 3  # fewer have no p: their variance is hardly known


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


@dataclass(frozen=True)
class SeedVariance:
    """The variance over seeds of the difference of two arms."""

    square: float
    """Of the difference at one seed."""
    degrees_of_freedom: float


def pooled_seed_variance(scores_KS: Floats) -> SeedVariance:
    """Return the variance over seeds that all pairs of arms share, from the scores of the arms [K, S] on common seeds.

    Twice the residual mean square of arms by seeds, on (K - 1)(S - 1) degrees of freedom (randomised block analysis).
    """
    scores = np.asarray(scores_KS, dtype=np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise ConfigError(f"scores must be a table of at least two arms and seeds, got the shape {list(scores.shape)}")
    left = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    degrees_of_freedom = (scores.shape[0] - 1) * (scores.shape[1] - 1)
    return SeedVariance(2 * float((left**2).sum()) / degrees_of_freedom, degrees_of_freedom)


def seed_interval(
    differences: Sequence[float], confidence: float = 0.95, pooled: SeedVariance | None = None
) -> Interval:
    """Return the mean difference over seeds with Student's interval; infinite for fewer than two seeds.

    Of `pooled` and the differences' own variance the larger counts.
    """
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return Interval(mean, -math.inf, math.inf)
    over_seeds = _variance(values, pooled)
    square = over_seeds.square / len(values)
    return _student(mean, math.sqrt(square), over_seeds.degrees_of_freedom, confidence, square, len(values))


def published_interval(
    differences: Sequence[float], theirs: SeedVariance | None, runs: int, confidence: float = 0.95
) -> Interval:
    """Return the mean of scores less a published mean of `runs` runs, both of which vary over seeds (Welch 1947).

    `differences` are our scores less the published number. Where no spread was published theirs is taken to be ours.
    """
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return Interval(mean, -math.inf, math.inf)
    own = _variance(values, None)
    square, other = own.square / len(values), (theirs or own).square / runs
    error = math.sqrt(square + other)
    if theirs is None or error < TIE:
        return _student(mean, error, own.degrees_of_freedom, confidence, square, len(values))
    spread = square**2 / own.degrees_of_freedom + other**2 / theirs.degrees_of_freedom
    return _student(mean, error, (square + other) ** 2 / spread, confidence, square, len(values))


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


def crossed_interval(differences_SE: Floats, confidence: float = 0.95, pooled: SeedVariance | None = None) -> Interval:
    """Return the mean of differences [S, E] with an interval for new seeds and new examples at once.

    Every seed is scored on the same examples, so both are random and crossed. The variance of the mean is that over
    seeds plus that over examples less the residual that both contain (two-way random effects); Student's t has
    Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946), but at most twice those of the variance over
    seeds: that one is estimated from so few seeds that it is often far too small, and then its weight is, too.
    Of `pooled` and the differences' own variance over seeds the larger counts.
    """
    table = np.asarray(differences_SE, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise ConfigError(f"differences must be a table of seeds and examples, got the shape {list(table.shape)}")
    num_seeds, num_examples = table.shape
    mean = float(table.mean())
    if num_seeds < 2 or num_examples < 2:
        return Interval(mean, -math.inf, math.inf)
    seeds, examples = table.mean(1), table.mean(0)
    over_seeds = _variance(seeds, pooled)
    left = table - seeds[:, None] - examples[None] + mean
    of_seeds, of_examples = over_seeds.square / num_seeds, float(examples.var(ddof=1)) / num_examples
    of_both = (num_seeds - 1) * (num_examples - 1)
    residual = float((left**2).sum()) / of_both / table.size
    variance = max(of_seeds + of_examples - residual, of_seeds, of_examples)
    if variance < TIE:
        return _student(mean, 0.0, 1, confidence, 0.0, num_seeds)
    freedom = over_seeds.degrees_of_freedom
    spread = of_seeds**2 / freedom + of_examples**2 / (num_examples - 1) + residual**2 / of_both
    freedom = min(variance**2 / spread, 2 * freedom)
    return _student(mean, math.sqrt(variance), freedom, confidence, min(of_seeds, variance), num_seeds)


def with_freedom(interval: Interval, most: float, num_seeds: int, confidence: float = 0.95) -> Interval:
    """Return an interval, and its p, with at most so many degrees of freedom."""
    if not math.isfinite(interval.error) or interval.degrees_of_freedom <= most:
        return interval
    return _student(interval.estimate, interval.error, most, confidence, interval.of_seeds, num_seeds)


def _variance(differences: Floats, pooled: SeedVariance | None) -> SeedVariance:
    """Return the variance of differences over seeds, at least the pooled one, which is too small for noisy arms."""
    own = SeedVariance(float(differences.var(ddof=1)), len(differences) - 1)
    return replace(pooled, square=max(pooled.square, own.square)) if pooled else own


def _student(
    mean: float, error: float, degrees_of_freedom: float, confidence: float, of_seeds: float, num_seeds: int
) -> Interval:
    """Return the interval of a mean with this standard error and degrees of freedom; no p below `LEAST_SEEDS`.

    Where nothing varies there is nothing to judge by: the interval is unknown and p is 1.
    """
    if error < TIE:
        return Interval(mean, -math.inf, math.inf, 1.0 if num_seeds >= LEAST_SEEDS else math.nan)
    half = float(special.stdtrit(degrees_of_freedom, (1 + confidence) / 2)) * error
    p = 2 * float(special.stdtr(degrees_of_freedom, -abs(mean) / error)) if num_seeds >= LEAST_SEEDS else math.nan
    return Interval(mean, mean - half, mean + half, p, error, degrees_of_freedom, of_seeds)


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
