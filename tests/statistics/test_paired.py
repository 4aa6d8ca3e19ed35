"""Exact tests against closed forms and scipy."""

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from molex_cli.statistics import paired


@pytest.mark.parametrize("num_seeds", [1, 2, 3, 5, 6, 10])
def test_seeds_that_all_agree_reach_the_smallest_p(num_seeds):
    values = [0.1 + 0.01 * i for i in range(num_seeds)]
    assert paired.sign_permutation(values) == pytest.approx(2 / 2**num_seeds if num_seeds > 1 else 1.0)
    assert paired.smallest_p(num_seeds) == pytest.approx(min(1.0, 2 / 2**num_seeds))


def test_five_seeds_never_reach_five_in_a_hundred_and_six_do():
    assert paired.smallest_p(5) == 0.0625
    assert paired.smallest_p(6) < 0.05


def test_the_permutation_test_is_the_enumeration_of_all_signs():
    values = np.array([0.3, -0.1, 0.2, 0.05, -0.02, 0.0, 0.11])
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((1, -1), repeat=7)
    ]
    expected = np.mean([each >= abs(values.sum()) - 1e-12 for each in sums])
    assert paired.sign_permutation(values) == pytest.approx(expected)
    other = scipy_stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=10**6)
    assert paired.sign_permutation(values) == pytest.approx(other.pvalue)


def test_ties_count_as_at_least_as_extreme():
    assert paired.sign_permutation([1.0, -1.0]) == 1.0
    assert paired.sign_permutation([0.0, 0.0, 0.0]) == 1.0
    assert paired.sign_permutation([]) == 1.0


def test_many_seeds_are_drawn_and_agree_with_the_t_test():
    values = np.random.default_rng(0).normal(0.4, 1.0, 40)
    assert paired.sign_permutation(values) == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_mcnemar_is_the_exact_binomial_test():
    assert paired.mcnemar(10, 2) == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert paired.mcnemar(0, 0) == 1.0
    assert paired.mcnemar(5, 5) == 1.0
    assert paired.mcnemar(2, 10) == paired.mcnemar(10, 2)
