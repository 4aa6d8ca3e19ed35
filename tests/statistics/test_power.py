"""Power, and what follows from it, on textbook values."""

import math

import pytest

from molex_cli.statistics import intervals, power


def of_seeds(effect, deviation, num_seeds):
    """Return the interval over seeds whose differences have this mean and standard deviation."""
    error = deviation / math.sqrt(num_seeds)
    return intervals.Interval(effect, effect, effect, 0.5, error, num_seeds - 1, error**2)


def test_power_and_what_follows_from_it_on_textbook_values():
    # statsmodels: TTestPower().power(0.5, 20, 0.05)
    assert power.power(0.5, 1 / math.sqrt(20), 19) == pytest.approx(0.5645, abs=1e-3)
    # The paired t-test of d = 0.5 with alpha 0.05 and power 0.8, whatever number of seeds told the deviation.
    assert power.seeds_needed(0.5, of_seeds(0.1, 1.0, 3), 3) == 34
    assert power.seeds_needed(0.5, of_seeds(0.1, 1.0, 12), 12) == 34
    assert power.detectable_effect(of_seeds(0.1, 1.0, 34)) == pytest.approx(0.4945, abs=2e-3)
    double = power.detectable_effect(of_seeds(0.1, 2.0, 34))
    assert double == pytest.approx(2 * power.detectable_effect(of_seeds(0.1, 1.0, 34)))
    assert power.seeds_needed(100.0, of_seeds(0.1, 1.0, 3), 3) == 3  # fewer have no p
    assert power.seeds_needed(1e-9, of_seeds(0.1, 1.0, 3), 3) is None
    assert power.detectable_effect(intervals.seed_interval([0.5])) == math.inf


def test_more_seeds_do_not_make_up_for_too_few_examples():
    error = 0.1
    only_examples = intervals.Interval(0.1, 0.0, 0.2, 0.3, error, 50.0, of_seeds=0.0)
    assert power.seeds_needed(0.1, only_examples, 3) is None
    assert power.seeds_needed(1.0, only_examples, 3) == 3


def test_degrees_of_freedom_grow_with_the_seeds_as_those_of_a_pooled_variance_do():
    pooled = intervals.Interval(0.1, 0.0, 0.2, 0.3, 0.1, 10.0, of_seeds=0.01)  # six arms of three seeds
    needed = power.seeds_needed(0.2, pooled, 3)
    assert power.power(0.2, math.sqrt(0.03 / needed), 5 * (needed - 1)) >= 0.8
    assert power.power(0.2, math.sqrt(0.03 / (needed - 1)), 5 * (needed - 2)) < 0.8
    assert power.power(0.2, math.sqrt(0.03 / needed), needed - 1) < 0.8  # what a pair alone would have
