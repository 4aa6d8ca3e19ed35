"""The race: decided, given up or open, at the level of all looks and claims together."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from molex_cli.statistics.sequential import Race
from molex_cli.study.definition import Claim
from molex_cli.study.race import Contest, Look, State, look

ONE, TWO, THREE = Claim("a", "b"), Claim("a", "c"), Claim("b", "c")


@pytest.fixture(scope="module")
def race():
    return Race(first=3, most=12, draws=20_000)


def raced(race, looks, claims=(ONE, TWO), alpha=0.05):
    """Return the contests after looks, each with a p of every claim."""
    contests = [Contest(claim) for claim in claims]
    for number, p_values in enumerate(looks):
        seen = {claim: Look(p, 1.0) for claim, p in zip(claims, p_values, strict=True)}
        look(contests, race, race.first + number, alpha, seen)
    return contests


def test_a_claim_is_decided_below_the_threshold_of_its_look_and_no_sooner(race):
    threshold = race.critical(3, 0.05)
    assert raced(race, [[threshold * 0.9]], [ONE])[0].state is State.decided
    assert raced(race, [[threshold * 1.1]], [ONE])[0].state is State.open


def test_several_claims_share_the_level(race):
    p = race.critical(3, 0.05) * 0.9
    alone, other = raced(race, [[p, 0.9]])
    assert (alone.state, other.state) == (State.open, State.open)
    assert alone.adjusted == pytest.approx(2 * alone.q)
    both = raced(race, [[race.critical(3, 0.024), p]])
    assert [contest.state for contest in both] == [State.decided, State.decided]  # Holm: the second gets all of it


def test_a_claim_that_was_decided_keeps_its_seeds_and_its_place_in_the_family(race):
    first, second = raced(race, [[1e-9, 0.5], [0.9, 0.2]])
    assert (first.state, first.seeds, list(first.looks)) == (State.decided, 3, [3])
    assert (second.state, second.seeds) == (State.open, 4)
    alone = raced(race, [[0.5], [0.2]], [TWO])
    assert second.q == alone[0].q


def test_a_smaller_p_of_before_still_counts(race):
    early, late = raced(race, [[1e-3, 0.9], [0.9, 0.9]])
    assert early.q < late.q


def test_what_may_not_be_concluded_from_decides_nothing_and_gives_nothing_up(race):
    (contest,) = raced(race, [[math.nan]] * 9, [ONE])
    assert (contest.state, contest.q) == (State.open, pytest.approx(1, abs=1e-3))
    (contest,) = raced(race, [[math.nan]] * 9 + [[1e-9]], [ONE])
    assert contest.state is State.decided


def test_looks_at_few_seeds_can_be_forgotten_and_what_they_decided_is_open_again(race):
    first, second = raced(race, [[1e-9, 0.5], [0.9, 0.2]])
    assert first.state is State.decided
    first.forget(race, 8)
    second.forget(race, 8)
    assert (first.state, second.state) == (State.open, State.open)
    assert (first.q, second.q) == (pytest.approx(1, abs=1e-3),) * 2
    (later,) = raced(race, [[race.critical(seeds, 0.1)] for seeds in range(3, 8)] + [[1e-9]], [ONE])
    later.forget(race, 8)
    assert later.state is State.decided


def test_nothing_is_decided_by_a_look_whose_difference_has_turned(race):
    contests = [Contest(ONE), Contest(TWO)]
    p = race.critical(3, 0.04)
    look(contests, race, 3, 0.05, {ONE: Look(p, 0.3), TWO: Look(0.5, 0.1)})
    look(contests, race, 4, 0.05, {ONE: Look(0.9, -0.1), TWO: Look(1e-9, 0.1)})  # leaves the first all of the level
    assert [contest.state for contest in contests] == [State.open, State.decided]
    look(contests, race, 5, 0.05, {ONE: Look(0.9, 0.1)})
    assert contests[0].state is State.decided


def test_no_trend_is_given_up_and_all_seeds_are_the_end(race):
    (contest,) = raced(race, [[0.9]] * 4, [ONE])
    assert (contest.state, contest.seeds) == (State.futile, 6)
    trend = [[race.critical(seeds, 0.1)] for seeds in range(3, 13)]
    (contest,) = raced(race, trend, [ONE])
    assert (contest.state, contest.seeds) == (State.exhausted, 12)


def test_a_claim_is_given_up_at_the_level_that_holm_leaves_it(race):
    looks = [[1.0, 1.0, 1.0]] * 3 + [[0.3, 1.0, 1.0]]
    assert raced(race, [look[:1] for look in looks], [ONE])[0].state is State.open
    assert raced(race, looks, [ONE, TWO, THREE])[0].state is State.futile  # it needs a third of the level
    looks[0] = [1.0, 1e-9, 1e-9]
    found = raced(race, looks, [ONE, TWO, THREE])
    assert [contest.state for contest in found] == [State.open, State.decided, State.decided]


def test_a_claim_that_was_given_up_is_decided_where_another_leaves_it_the_level(race):
    looks = [[race.critical(3, 0.04), 1.0], *[[1.0, 1.0]] * 2, [0.9, 0.01], [1.0, race.critical(7, 0.02)]]
    before, after = raced(race, looks[:4]), raced(race, looks)
    assert [contest.state for contest in before] == [State.futile, State.open]
    assert [contest.state for contest in after] == [State.decided, State.decided]
    assert after[0].seeds == 6


def test_equal_arms_are_rarely_called_different():
    """A short version of `benchmarks/inference.py`: all pairs of four arms that do not differ."""
    race, sets = Race(first=3, most=8, draws=20_000), 600
    pairs = [Claim(str(one), str(other)) for one, other in combinations(range(4), 2)]
    scores = np.random.default_rng(1).standard_normal((sets, 4, 8))
    p_values = {
        (pair, seeds): stats.ttest_1samp(
            (scores[:, int(pair.one)] - scores[:, int(pair.other)])[:, :seeds], 0, 1
        ).pvalue
        for pair in pairs
        for seeds in range(3, 9)
    }
    wrong = 0
    for i in range(sets):
        contests = [Contest(pair) for pair in pairs]
        for seeds in range(3, 9):
            look(contests, race, seeds, 0.05, {pair: Look(p_values[pair, seeds][i], 1.0) for pair in pairs})
        wrong += any(contest.state is State.decided for contest in contests)
    assert wrong / sets < 0.05 + 3 * math.sqrt(0.05 * 0.95 / sets)
