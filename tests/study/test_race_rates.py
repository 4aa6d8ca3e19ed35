"""A short version of benchmarks/inference.py: how often races of equal arms err, and how many seeds they take."""

import numpy as np
import pytest
from races import outcomes

from molex_cli.statistics.sequential import Race


@pytest.fixture(scope="module")
def race():
    return Race(3, 12)


@pytest.mark.parametrize("deviation", [None, 0.06], ids=["normal scores", "examples"])
def test_six_equal_arms_are_rarely_called_different_and_soon_given_up(race, deviation):
    sets = 250
    found = list(outcomes(race, 6, deviation, sets))
    assert np.mean([each.decided > 0 for each in found]) <= 0.05 + 2 * (0.05 * 0.95 / sets) ** 0.5
    assert np.mean([each.seeds for each in found]) <= 0.65 * race.most


def test_an_arm_that_is_better_is_found(race):
    assert np.mean([each.decided for each in outcomes(race, 2, None, 200, gain=2.0)]) > 0.9
