"""Tests and intervals against closed forms, against scipy, and against simulated truth."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from molex_cli.errors import ConfigError
from molex_cli.metrics.classification import accuracy, f1, matthews
from molex_cli.metrics.regression import pearson
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


def test_holm_and_benjamini_hochberg_on_a_known_family():
    p_values = [0.01, 0.04, 0.03, 0.005]
    assert paired.holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.benjamini_hochberg(p_values) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert paired.holm([]) == []
    assert paired.benjamini_hochberg([]) == []
    assert paired.benjamini_hochberg([0.01, 0.04], family=4) == pytest.approx([0.04, 0.08])
    assert paired.holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_interval_over_seeds_is_students():
    values = [0.61, 0.58, 0.66, 0.60]
    found = paired.seed_interval(values)
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(values), scipy_stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)
    assert paired.seed_interval([0.5]).low == -math.inf


def of_seeds(effect, deviation, num_seeds):
    """Return the interval over seeds whose differences have this mean and standard deviation."""
    error = deviation / math.sqrt(num_seeds)
    return paired.Interval(effect, effect, effect, 0.5, error, num_seeds - 1, error**2)


def test_power_and_what_follows_from_it_on_textbook_values():
    # statsmodels: TTestPower().power(0.5, 20, 0.05)
    assert paired.power(0.5, 1 / math.sqrt(20), 19) == pytest.approx(0.5645, abs=1e-3)
    # The paired t-test of d = 0.5 with alpha 0.05 and power 0.8, whatever number of seeds told the deviation.
    assert paired.seeds_needed(of_seeds(0.5, 1.0, 3), 3) == 34
    assert paired.seeds_needed(of_seeds(0.5, 1.0, 12), 12) == 34
    assert paired.detectable_effect(of_seeds(0.1, 1.0, 34)) == pytest.approx(0.4945, abs=2e-3)
    double = paired.detectable_effect(of_seeds(0.1, 2.0, 34))
    assert double == pytest.approx(2 * paired.detectable_effect(of_seeds(0.1, 1.0, 34)))
    assert paired.seeds_needed(of_seeds(100.0, 1.0, 3), 3) == 6  # fewer can never reach alpha by permutation
    assert paired.seeds_needed(of_seeds(1e-9, 1.0, 3), 3) is None
    assert paired.detectable_effect(paired.seed_interval([0.5])) == math.inf


def test_more_seeds_do_not_make_up_for_too_few_examples():
    error = 0.1
    only_examples = paired.Interval(0.1, 0.0, 0.2, 0.3, error, 50.0, of_seeds=0.0)
    assert paired.seeds_needed(only_examples, 3) is None
    assert paired.seeds_needed(paired.Interval(1.0, 0.0, 2.0, 0.01, error, 50.0, of_seeds=0.0), 3) == 6


def coverage(interval, draws):
    return np.mean([each.low <= 0 <= each.high for each in map(interval, draws)])


def test_intervals_cover_what_they_promise():
    stream = np.random.default_rng(1)
    assert 0.93 <= coverage(paired.seed_interval, stream.normal(0, 1, (1500, 4))) <= 0.97
    outcomes = stream.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(1000, 250))
    assert 0.93 <= coverage(paired.example_interval, outcomes) <= 0.97


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("spread", [(0.05, 0.1, 0.4), (0.1, 0.05, 0.2), (0.02, 0.3, 0.1)])
def test_the_interval_over_seeds_and_examples_covers_both(num_seeds, spread):
    stream = np.random.default_rng(2)
    of_seeds, of_examples, of_both = spread

    def draw():
        shape = (num_seeds, 200)
        common = stream.normal(0, of_seeds, (num_seeds, 1)) + stream.normal(0, of_examples, (1, 200))
        return common + stream.normal(0, of_both, shape)

    assert 0.93 <= coverage(paired.crossed_interval, (draw() for _ in range(1200))) <= 0.975


def test_examples_alone_are_not_the_whole_uncertainty():
    """Three seeds that differ much: an interval over examples alone is far too narrow."""
    stream = np.random.default_rng(3)
    draws = [stream.normal(0, 0.1, (3, 1)) + stream.normal(0, 0.2, (3, 200)) for _ in range(60)]
    assert coverage(lambda table: paired.example_interval(table.mean(0)), draws) < 0.5
    assert coverage(paired.crossed_interval, draws) > 0.9


def test_under_the_null_a_family_of_many_arms_errs_at_most_as_often_as_promised():
    stream = np.random.default_rng(4)
    wrong = 0
    for _ in range(600):
        base = stream.normal(0, 1, 6)
        p_values = [paired.seed_interval(stream.normal(0, 1, 6) - base).p for _ in range(7)]
        wrong += min(paired.holm(p_values)) < 0.05
    assert wrong / 600 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 600)


def test_pseudo_values_of_a_mean_are_the_outcomes_and_their_mean_is_the_score():
    stream = np.random.default_rng(5)
    label, guess = stream.integers(0, 3, (2, 80)).tolist()
    outcomes = [float(one == other) for one, other in zip(label, guess, strict=True)]
    assert paired.pseudo_values(accuracy, guess, label) == pytest.approx(outcomes)
    for metric in (matthews, f1):
        assert paired.pseudo_values(metric, guess, label).mean() == pytest.approx(metric(guess, label))
    scored, given = stream.normal(size=(2, 50)).tolist()
    by_hand = [pearson(scored[:i] + scored[i + 1 :], given[:i] + given[i + 1 :]) for i in range(50)]
    jackknifed = 50 * pearson(scored, given) - 49 * np.array(by_hand)
    found = paired.pseudo_values(pearson, scored, given)
    assert found - found.mean() == pytest.approx(jackknifed - jackknifed.mean())
    assert np.isnan(paired.pseudo_values(matthews, [0, 0, 1], [0, 1, 0])).any()  # undefined without the third


@pytest.mark.parametrize(("metric", "num_seeds", "num_examples"), [(matthews, 4, 120), (f1, 5, 100)])
def test_intervals_of_scores_that_are_no_means_cover_what_they_promise(metric, num_seeds, num_examples):
    stream = np.random.default_rng(6)

    def guesses(label, skill):
        return np.where(stream.random(len(label)) < skill, label, stream.integers(0, 2, len(label)))

    def seeds(count):
        return np.clip(stream.normal([[0.6], [0.45]], 0.06, (2, count)), 0, 1)

    population = stream.integers(0, 2, 400_000)
    truth = np.subtract(*(metric(guesses(population, skill), population) for skill in (0.6, 0.45)))
    covered = 0
    for _ in range(400):
        label = stream.integers(0, 2, num_examples)
        table = []
        for one, other in seeds(num_seeds).T:
            values = [paired.pseudo_values(metric, guesses(label, s).tolist(), label.tolist()) for s in (one, other)]
            table.append(values[0] - values[1])
        interval = paired.crossed_interval(np.stack(table))
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / 400 <= 0.985


def test_a_table_without_rows_is_refused():
    with pytest.raises(ConfigError, match="differences must be a table of seeds and examples, got the shape"):
        paired.crossed_interval(np.zeros((0, 4)))


def test_the_distributions_are_those_of_scipy_stats_to_the_last_digit():
    stream = np.random.default_rng(0)
    for _ in range(300):
        effect, error, freedom = stream.uniform(-3, 3), stream.uniform(0.1, 2), stream.uniform(1, 60)
        edge = scipy_stats.t.ppf(0.975, freedom)
        law = scipy_stats.nct(freedom, effect / error)
        expected = float(1 - law.cdf(edge) + law.cdf(-edge))
        assert paired.power(effect, error, freedom) == (1.0 if math.isnan(expected) else expected)
        first, second = (int(n) for n in stream.integers(0, 60, size=2))
        expected = scipy_stats.binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
        assert paired.mcnemar(first, second) == float(expected)
