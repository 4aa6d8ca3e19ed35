"""A comparison that is looked at after every seed keeps its error rate over all looks."""

from itertools import combinations

import numpy as np
import pytest
from inference import World
from scipy import stats

from molex_cli.errors import ConfigError
from molex_cli.statistics.intervals import crossed_interval, seed_interval
from molex_cli.statistics.multiplicity import holm
from molex_cli.statistics.sequential import Race, of_look

CRITICAL = (0.00047, 0.00112, 0.00218, 0.00377, 0.00599, 0.00894, 0.01272, 0.01745, 0.02323, 0.0302)


@pytest.fixture(scope="module")
def race():
    return Race(3, 12)


def p_by_seeds(values, race):
    """Return the p of Student's test at each look at differences over seeds, [seeds] or [seeds, sets]."""
    return {n: stats.ttest_1samp(values[:n], 0).pvalue for n in range(race.first, race.most + 1)}


def test_the_level_of_each_look_is_that_of_an_independent_prototype(race):
    assert [race.critical(n) for n in range(3, 13)] == pytest.approx(CRITICAL, rel=0.02)
    assert Race(3, 8).critical(8) == pytest.approx(0.0318, rel=0.02)
    assert Race(3, 15).critical(15) == pytest.approx(0.0295, rel=0.02)


def test_the_p_over_all_looks_is_below_alpha_where_one_look_is_below_its_level(race):
    for n in range(3, 13):
        assert race.p_over_looks({3: 0.9, n: 0.99 * race.critical(n)}) <= 0.05
        assert race.p_over_looks({3: 0.9, n: 1.02 * race.critical(n)}) > 0.05
    assert race.p_over_looks({3: 1.0}) == pytest.approx(1.0, abs=0.01)


def test_the_p_over_all_looks_never_rises_with_more_looks(race):
    values = np.random.default_rng(3).normal(0.5, 1, 12)
    looks = p_by_seeds(values, race)
    found = [race.p_over_looks({n: looks[n] for n in range(3, last + 1)}) for last in range(3, 13)]
    assert found == sorted(found, reverse=True)


def test_looking_after_every_seed_errs_no_more_often_than_promised(race):
    sets = 3000
    looks = p_by_seeds(np.random.default_rng(4).normal(0, 1, (12, sets)), race)
    found = [race.p_over_looks({n: p[i] for n, p in looks.items()}) for i in range(sets)]
    assert abs(np.mean([p <= 0.05 for p in found]) - 0.05) <= 2.5 * (0.05 * 0.95 / sets) ** 0.5


def test_a_comparison_without_a_trend_is_given_up_and_one_with_a_trend_is_not(race):
    assert race.is_futile(0.9, 6)
    assert race.is_futile(0.5, 10)
    assert not race.is_futile(0.9, 5)  # too early
    assert not race.is_futile(0.04, 6)
    assert not race.is_futile(0.9, 12)  # the end itself


def test_a_race_is_planned_beforehand():
    for first, most in ((2, 8), (5, 4)):
        with pytest.raises(ConfigError, match="seeds must be at least 3 first and no fewer at most"):
            Race(first, most)


def test_a_look_without_a_p_finds_nothing_and_one_that_was_not_planned_is_refused(race):
    assert race.p_over_looks({3: np.nan, 4: 0.001}) == race.p_over_looks({4: 0.001})
    assert race.p_over_looks({3: np.nan}) == 1.0
    for looks in ({}, {2: 0.01}, {3: 0.01, 13: 0.01}):
        with pytest.raises(ConfigError, match="looks must be after 3 to 12 seeds, got"):
            race.p_over_looks(looks)


def test_a_look_is_judged_with_at_most_one_and_a_half_times_the_freedom_of_its_seeds():
    differences = np.random.default_rng(8).normal(0.3, 1, (5, 200)) + np.linspace(-0.1, 0.1, 5)[:, None]
    once = crossed_interval(differences)
    assert once.degrees_of_freedom > 6
    look = of_look(once, 5)
    assert (look.estimate, look.error, look.degrees_of_freedom) == (once.estimate, once.error, 6)
    assert look.p == pytest.approx(2 * stats.t.sf(abs(once.estimate) / once.error, 6))
    assert look.high - look.estimate == pytest.approx(stats.t.ppf(0.975, 6) * once.error)
    of_seeds = seed_interval([0.1, 0.3, 0.2])
    assert of_look(of_seeds, 3) == of_seeds  # it has fewer
    assert of_look(crossed_interval(np.ones((3, 9))), 3).p == 1  # nothing varies
    assert np.isnan(of_look(crossed_interval(differences[:2]), 2).p)


def at_most(share, sets):
    """Return a share and two standard errors of its estimate."""
    return share + 2 * (share * (1 - share) / sets) ** 0.5


def test_a_race_of_two_equal_arms_with_binary_outcomes_rarely_calls_them_different(race):
    sets, stream = 400, np.random.default_rng(5)
    found = []
    for _ in range(sets):
        outcomes, _ = World(2, race.most, 277, 0.03).outcomes(stream)
        differences = outcomes[0] - outcomes[1]
        found.append(
            race.p_over_looks(
                {n: of_look(crossed_interval(differences[:n]), n).p for n in range(race.first, race.most + 1)}
            )
        )
    assert np.mean(np.array(found) <= 0.05) <= at_most(0.052, sets)


def test_a_race_of_six_equal_arms_rarely_calls_any_two_different(race):
    sets = 1000
    arms = np.random.default_rng(6).normal(0, 1, (race.most, sets, 6))
    pairs = np.stack([arms[..., i] - arms[..., j] for i, j in combinations(range(6), 2)], axis=-1)
    looks = p_by_seeds(pairs, race)
    errors = 0
    for i in range(sets):
        errors += min(holm([race.p_over_looks({n: p[i, k] for n, p in looks.items()}) for k in range(15)])) <= 0.05
    assert errors / sets <= at_most(0.05, sets)


def test_a_race_of_equal_arms_is_given_up_early(race):
    sets = 1000
    looks = p_by_seeds(np.random.default_rng(7).normal(0, 1, (race.most, sets)), race)

    def seeds_of(i):
        for n in looks:
            if race.p_over_looks({k: looks[k][i] for k in looks if k <= n}) <= 0.05 or race.is_futile(looks[n][i], n):
                return n
        return race.most

    assert np.mean([seeds_of(i) for i in range(sets)]) <= 0.65 * race.most
