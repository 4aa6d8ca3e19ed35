"""Adjusted p-values of known families, and how often a family errs."""

import math

import numpy as np
import pytest

from molex_cli.statistics import intervals, multiplicity


def test_holm_and_benjamini_hochberg_on_a_known_family():
    p_values = [0.01, 0.04, 0.03, 0.005]
    assert multiplicity.holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert multiplicity.benjamini_hochberg(p_values) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert multiplicity.holm([]) == []
    assert multiplicity.benjamini_hochberg([]) == []
    assert multiplicity.benjamini_hochberg([0.01, 0.04], family=4) == pytest.approx([0.04, 0.08])
    assert multiplicity.holm([0.9, 0.8]) == [1.0, 1.0]


def test_under_the_null_a_family_of_many_arms_errs_at_most_as_often_as_promised():
    stream = np.random.default_rng(4)
    wrong = 0
    for _ in range(600):
        base = stream.normal(0, 1, 6)
        p_values = [intervals.seed_interval(stream.normal(0, 1, 6) - base).p for _ in range(7)]
        wrong += min(multiplicity.holm(p_values)) < 0.05
    assert wrong / 600 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 600)


def test_a_test_without_a_p_is_none_of_the_family():
    for adjusted in (multiplicity.holm, multiplicity.benjamini_hochberg):
        with_one = adjusted([0.01, math.nan, 0.04])
        assert math.isnan(with_one[1])
        assert [with_one[0], with_one[2]] == adjusted([0.01, 0.04])
        assert math.isnan(adjusted([math.nan])[0])
