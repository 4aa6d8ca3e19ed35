"""A short version of benchmarks/inference.py: how often the table errs on simulated runs of known truth."""

import pytest
from inference import UNEQUAL, World, calls, coverage, family_error, tables


def allowed(percent, sets):
    """Return a share in percent and two standard errors of its estimate."""
    return percent + 2 * (percent * (100 - percent) / sets) ** 0.5


def test_equal_arms_are_rarely_called_different():
    sets = 600
    assert family_error(World(6, 3, 872, 0.03), sets) <= allowed(5.5, sets)


def test_nor_are_those_whose_seeds_vary_unequally():
    sets = 300
    assert family_error(World(3, 3, 872, 0.03, UNEQUAL), sets) <= allowed(7.5, sets)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_of_a_pair_holds_the_truth(seeds):
    sets = 300
    assert 100 - coverage(World(2, seeds, 277, 0.03, gain=0.02), sets) <= allowed(7.0, sets)


@pytest.mark.parametrize("seeds", [3, 5])
def test_of_few_seeds_of_which_one_collapsed_nothing_is_called(seeds):
    columns = list(tables(World(2, seeds, 277, 0.01, gain=0.06, collapse=0.2), 100, "arm1"))
    with_collapse = [column for column in columns if any(cell.collapsed for cell in column.values())]
    called = [column for column in columns if calls(column)]
    assert len(with_collapse) > 20
    assert called  # where none was seen
    assert not any(column in called for column in with_collapse)
    assert all(cell.difference.caveat.startswith("when it trains") for column in called for cell in calls(column))
