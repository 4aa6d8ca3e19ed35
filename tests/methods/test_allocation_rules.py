"""From scores to counts, and what may be said of a rule before it is computed."""

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molex_cli.cli import main
from molex_cli.errors import ConfigError
from molex_cli.methods import allocations
from molex_cli.methods.allocation import Allocation, counts_by_rule, experts_per_layer, rule_problems
from molex_cli.methods.allocations.base import RULES, SHAPES, Budget
from molex_cli.methods.allocations.scores import counts_of_scores
from molex_cli.methods.allocations.spectral_paper import counts as published_counts

score = st.floats(0, 1e6, allow_subnormal=False) | st.sampled_from([0.0, 1.0, 1e-9])
lists = st.lists(score, min_size=1, max_size=40)


def spread(scores, total, low=0, high=None):
    """Return the counts, or None where none are possible."""
    try:
        return counts_of_scores(
            scores, Budget(total=total, num_layers=len(scores), low=low, high=high or max(total, low, 1))
        )
    except ConfigError:
        return None


@given(lists, st.integers(0, 300), st.integers(0, 4), st.none() | st.integers(4, 30))
def test_a_total_is_spent_exactly_within_the_bounds_and_in_the_order_of_the_scores(scores, total, low, high):
    counts = spread(scores, total, low, high)
    is_possible = max(1, low * len(scores)) <= total <= (high or max(total, low, 1)) * len(scores)
    assert (counts is not None) == is_possible
    if counts is None:
        return
    assert sum(counts) == total
    assert low <= min(counts)
    assert max(counts) <= (high or total)
    by_score = sorted(zip(scores, counts, strict=True))
    assert all(a <= b for (s, a), (t, b) in pairwise(by_score) if s < t)


@given(lists.filter(any), st.integers(1, 300))
def test_without_bounds_each_count_is_its_share_rounded_down_or_up_and_the_largest_remainders_go_up(scores, total):
    shares = [Fraction(score) * total / sum(map(Fraction, scores)) for score in scores]
    counts = spread(scores, total)
    assert all(count in (math.floor(share), math.floor(share) + 1) for count, share in zip(counts, shares, strict=True))
    pairs = list(zip(counts, shares, strict=True))
    up = [share % 1 for count, share in pairs if count > share]
    down = [share % 1 for count, share in pairs if count <= share and share % 1]
    assert not up or not down or min(up) >= max(down)


def test_equal_remainders_go_to_the_higher_layers():
    assert spread([1.0, 1.0, 1.0, 1.0], 6) == (1, 1, 2, 2)


def test_what_a_bound_takes_is_shared_in_proportion():
    assert spread([100.0, 50.0, 0.0, 0.0, 0.0, 0.0], 16, low=1) == (8, 4, 1, 1, 1, 1)
    assert spread([90.0, 6.0, 3.0, 1.0], 20, high=10) == (10, 6, 3, 1)
    assert spread([1.0, 0.0, 0.0], 7, high=3) == (3, 2, 2)
    assert spread([1.0, 0.0, 0.0], 7) == (7, 0, 0)


def test_the_published_rounding_is_exact_and_can_leave_a_layer_without():
    # Shares 0.12 and 3.88: rounded each on its own.
    assert published_counts([1.0, 32.0], Budget(total=4, num_layers=2, low=1, high=4)) == (0, 4)
    # Shares 1.5, 1.5, 1.5, 1.5 round to 2 each, two too many: both are taken from the first layer.
    assert published_counts([9.0] * 4, Budget(total=6, num_layers=4, low=1, high=6)) == (0, 2, 2, 2)


def test_a_rule_with_a_rounding_of_its_own_is_not_refused_before_it_has_scores():
    allocation = Allocation(rule="spectral_paper", total=18)
    assert not list(rule_problems(allocation, 12))  # equal scores would be rounded to counts below 0
    assert sum(counts_by_rule(allocation, [2.0 + layer / 3 for layer in range(12)])) == 18


def test_each_rule_is_a_file_that_registers_itself():
    files = {path.stem for path in Path(allocations.__path__[0]).glob("*.py")} - {"__init__", "base", "bands", "scores"}
    assert files == {*RULES, *SHAPES}


@given(st.integers(1, 100), st.sampled_from(sorted(SHAPES)), st.integers(0, 3))
def test_a_shape_may_be_named_as_a_rule(num_layers, shape, seed):
    own = {"seed": seed} if shape == "random" else {}
    named = Allocation(rule=shape, total=6 * num_layers, **own)
    assert not list(named.problems())
    assert experts_per_layer(named, num_layers) == experts_per_layer(
        Allocation(shape=shape, total=6 * num_layers, **own), num_layers
    )


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.0, 0.0, 0.0], "rule=probe must give some layer a score above 0, got 0 for all 3 layers"),
        ([1.0, math.nan, 1.0], "rule=probe must give finite scores of at least 0, got 1.0 nan 1.0"),
        ([1.0, -1.0, 1.0], "rule=probe must give finite scores of at least 0"),
    ],
)
def test_scores_that_say_nothing_are_one_line(scores, said):
    with pytest.raises(ConfigError) as error:
        counts_by_rule(Allocation(rule="probe"), scores)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"method.allocation.{said}")


@pytest.mark.parametrize("method", ["lora", "mola"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["rule=spektral"], "method.allocation.rule must be one of diamond, fisher, gradient"),
        (["rule=spektral"], "or null, got 'spektral'; did you mean spectral?"),
        (["rule=gradient", "shape=inverted"], "must set one of shape, rule, bands, layers, got shape and rule"),
        (["rule=gradient", "layers=[1,2,3,4]"], ".layers must be left to rule=gradient, which computes it"),
        (["rule=gradient", "layers=[1,2,3,4]", "scores=[1,2,3,4]"], ".scores must be left to rule=gradient"),
        (["scores=[1,2,3,4]"], ".scores must be left to a rule, got [1.0, 2.0, 3.0, 4.0] without its counts"),
        (["rule=gradient", "rows=0"], "method.allocation.rows must be at least 1, got 0"),
        (["rule=spectral", "seed=1"], ".seed is read by shape=random and by rules that read rows (fisher, gradient"),
        (["rule=knockout"], ".from_run must be the folder of a finished run for rule=knockout, got none"),
        (["rule=gradient", "from_run=x"], ".from_run is read by rule=knockout alone, got x; set it to null"),
        (["rule=gradient", "total=3"], "method.allocation must spend between 4 and 12 experts"),
        (["rule=gradient", "total=9", "mean=2"], "must set mean or total, got mean=2.0 and total=9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_said_before_anything_is_read(capsys, method, settings, said):
    command = ["plan", "model=tiny_bert", f"method={method}", *(f"method.allocation.{each}" for each in settings)]
    assert main(command) == 2
    assert said in capsys.readouterr().err
