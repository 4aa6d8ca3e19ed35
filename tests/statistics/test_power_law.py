"""The exponent of a power-law tail: known spectra give theirs."""

import numpy as np
import pytest

from molex_cli.statistics.power_law import LEAST_TAIL, exponent


def pareto(alpha, count):
    """Return the quantiles of p(x) ~ x^-alpha from 1 on."""
    return (1 - (np.arange(count) + 0.5) / count) ** (-1 / (alpha - 1))


@pytest.mark.parametrize("alpha", [1.5, 2.0, 2.5, 3.0, 4.0, 6.0])
@pytest.mark.parametrize("count", [100, 384, 1000])
def test_a_pareto_spectrum_has_its_own_exponent(alpha, count):
    assert exponent(pareto(alpha, count)) == pytest.approx(alpha, rel=0.05)
    assert exponent(1e-7 * pareto(alpha, count)[::-1]) == pytest.approx(exponent(pareto(alpha, count)))


def test_a_bulk_below_the_tail_is_cut_off():
    bulk = np.linspace(0.2, 1.0, 400)
    assert exponent(np.concatenate([bulk, pareto(3.0, 400)])) == pytest.approx(3.0, rel=0.05)


def test_the_cut_is_where_the_distance_is_least():
    values = np.sort(np.random.default_rng(0).lognormal(size=120))
    fits = []
    for cut in range(len(values) - LEAST_TAIL + 1):
        tail = values[cut:]
        found = 1 + len(tail) / np.log(tail / tail[0]).sum()
        below, cdf = np.arange(len(tail)) / len(tail), 1 - (tail / tail[0]) ** (1 - found)
        fits.append((max(abs(cdf - below).max(), abs(cdf - below - 1 / len(tail)).max()), found))
    assert exponent(values) == pytest.approx(min(fits)[1])
    assert min(fits)[1] != fits[0][1]


def test_zeros_of_a_singular_matrix_are_no_part_of_its_spectrum():
    assert exponent(np.concatenate([np.zeros(50), np.full(5, 1e-20), pareto(2.5, 200)])) == exponent(pareto(2.5, 200))


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0], [0.0, 0.0]])
def test_where_nothing_falls_off_there_is_no_power_law(values):
    assert exponent(np.array(values)) == 1
