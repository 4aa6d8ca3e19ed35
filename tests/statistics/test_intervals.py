"""Intervals against closed forms, against scipy, and against simulated truth."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from molex_cli.errors import ConfigError
from molex_cli.statistics import intervals


def test_the_interval_over_seeds_is_students():
    values = [0.61, 0.58, 0.66, 0.60]
    found = intervals.seed_interval(values)
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(values), scipy_stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)
    assert intervals.seed_interval([0.5]).low == -math.inf


def coverage(interval, draws):
    return np.mean([each.low <= 0 <= each.high for each in map(interval, draws)])


def test_intervals_cover_what_they_promise():
    stream = np.random.default_rng(1)
    assert 0.93 <= coverage(intervals.seed_interval, stream.normal(0, 1, (1500, 4))) <= 0.97
    outcomes = stream.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(1000, 250))
    assert 0.93 <= coverage(intervals.example_interval, outcomes) <= 0.97


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("spread", [(0.05, 0.1, 0.4), (0.1, 0.05, 0.2), (0.02, 0.3, 0.1)])
def test_the_interval_over_seeds_and_examples_covers_both(num_seeds, spread):
    stream = np.random.default_rng(2)
    of_seeds, of_examples, of_both = spread

    def draw():
        shape = (num_seeds, 200)
        common = stream.normal(0, of_seeds, (num_seeds, 1)) + stream.normal(0, of_examples, (1, 200))
        return common + stream.normal(0, of_both, shape)

    assert 0.93 <= coverage(intervals.crossed_interval, (draw() for _ in range(1200))) <= 0.995


def test_examples_alone_are_not_the_whole_uncertainty():
    """Three seeds that differ much: an interval over examples alone is far too narrow."""
    stream = np.random.default_rng(3)
    draws = [stream.normal(0, 0.1, (3, 1)) + stream.normal(0, 0.2, (3, 200)) for _ in range(60)]
    assert coverage(lambda table: intervals.example_interval(table.mean(0)), draws) < 0.5
    assert coverage(intervals.crossed_interval, draws) > 0.9


def test_a_table_without_rows_is_refused():
    with pytest.raises(ConfigError, match="differences must be a table of seeds and examples, got the shape"):
        intervals.crossed_interval(np.zeros((0, 4)))


def test_the_pooled_variance_is_that_of_the_analysis_of_variance():
    scores = np.random.default_rng(7).normal(0.7, 0.02, (4, 5))  # arms, seeds
    arms, seeds = scores.mean(1), scores.mean(0)
    total = ((scores - scores.mean()) ** 2).sum()
    left = total - 5 * ((arms - scores.mean()) ** 2).sum() - 4 * ((seeds - scores.mean()) ** 2).sum()
    found = intervals.pooled_seed_variance(scores)
    assert found.degrees_of_freedom == 12
    assert found.square == pytest.approx(2 * left / 12)
    pair = intervals.pooled_seed_variance(scores[:2])
    assert pair.square == pytest.approx((scores[0] - scores[1]).var(ddof=1))
    with pytest.raises(ConfigError, match="scores must be a table of at least two arms and seeds"):
        intervals.pooled_seed_variance(scores[:1])


def test_of_the_pooled_variance_and_the_pairs_own_the_larger_counts():
    scores = np.random.default_rng(8).normal(0.7, 0.02, (4, 5))
    own = (scores[0] - scores[1]).var(ddof=1)
    pooled = intervals.SeedVariance(1.5 * own, 12)
    noisy = intervals.seed_interval(scores[0] - scores[1], pooled=intervals.SeedVariance(own / 2, 12))
    assert noisy.error == pytest.approx(math.sqrt(own / 5))
    assert noisy.degrees_of_freedom == 12
    found = intervals.seed_interval(scores[0] - scores[1], pooled=pooled)
    assert found.error == pytest.approx(math.sqrt(pooled.square / 5))
    assert found.degrees_of_freedom == 12
    one_example = np.repeat((scores[0] - scores[1])[:, None], 50, axis=1)
    crossed = intervals.crossed_interval(one_example, pooled=pooled)
    assert crossed.error == pytest.approx(found.error)
    assert crossed.degrees_of_freedom == pytest.approx(12)


@pytest.mark.parametrize("interval", [intervals.seed_interval, lambda table: intervals.crossed_interval(table)])
def test_two_seeds_have_an_interval_and_no_p(interval):
    values = np.random.default_rng(9).normal(0.1, 0.01, (2, 80))
    found = interval(values.mean(1) if interval is intervals.seed_interval else values)
    assert found.low < 0.1 < found.high
    assert math.isnan(found.p)


def test_degrees_of_freedom_are_at_most_twice_those_of_the_variance_over_seeds():
    """Seeds that happen to agree would otherwise pass for seeds that always do."""
    table = np.random.default_rng(0).normal(0, 1, (3, 300))
    assert intervals.crossed_interval(table).degrees_of_freedom == 4


def test_the_interval_to_a_published_mean_with_a_published_spread_is_welchs():
    ours, published, deviation, runs = np.array([86.1, 85.2, 87.0, 86.4]), 84.0, 0.8, 3
    theirs = intervals.SeedVariance(deviation**2, runs - 1)
    found = intervals.published_interval(ours - published, theirs, runs)
    welch = scipy_stats.ttest_ind_from_stats(
        ours.mean(), ours.std(ddof=1), len(ours), published, deviation, runs, equal_var=False
    )
    assert found.p == pytest.approx(welch.pvalue)
    assert found.estimate == pytest.approx(ours.mean() - published)
    assert found.low <= found.estimate <= found.high


def test_the_interval_to_one_published_run_without_a_spread_is_that_of_another_run_of_ours():
    ours, published = np.array([86.1, 85.2, 87.0, 86.4]), 84.0
    found = intervals.published_interval(ours - published, None, 1)
    half = scipy_stats.t.ppf(0.975, 3) * ours.std(ddof=1) * math.sqrt(1 / 4 + 1)
    assert (found.low, found.high) == pytest.approx((ours.mean() - published - half, ours.mean() - published + half))
    assert intervals.published_interval([0.5], None, 1).low == -math.inf


@pytest.mark.parametrize("spread", [None, 3])
def test_the_interval_to_a_published_run_covers_what_it_promises(spread):
    stream = np.random.default_rng(3)

    def interval(values):
        theirs = intervals.SeedVariance(float(values[5:].var(ddof=1)), 2) if spread else None
        return intervals.published_interval(values[:4] - values[4], theirs, 1)

    assert coverage(interval, stream.normal(80, 1, (1500, 8))) >= 0.93
