"""Exact paired tests; no torch."""

from collections.abc import Sequence

import numpy as np

from molex_cli.statistics.intervals import RESAMPLES, TIE

MOST_EXACT_SEEDS = 20  # all their sign patterns are enumerated; of more seeds' patterns some are drawn


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
