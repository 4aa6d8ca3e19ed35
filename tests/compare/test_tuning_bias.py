"""A short version of benchmarks/inference.py: what tuning does to the difference of equal arms."""

from simulated import World
from tuning_bias import CHOICES, biases


def test_rows_and_seeds_that_report_nothing_flatter_nobody():
    reported, same_seeds, apart = (biases(World(6, 3, 277, 0.02), 400)[choice.name] for choice in CHOICES)
    assert reported[0] > 1.0  # points
    assert same_seeds[0] > 0.3
    assert abs(apart[0]) <= 0.1 + 2 * apart[1]
