"""The laws of allocation, for every number of layers from 1 to 100."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molex_cli.cli import main
from molex_cli.errors import ConfigError
from molex_cli.methods.allocation import Allocation, experts_per_layer
from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import SHAPES, Shape

layers = st.integers(1, 100)
means = st.fractions(1, 12, max_denominator=4).map(float)
SYMMETRIC = ("hourglass", "diamond")


def allocated(num_layers: int, **settings: object) -> tuple[int, ...] | None:
    """Return the vector, or None where the request is impossible."""
    try:
        return experts_per_layer(Allocation(**settings), num_layers)
    except ConfigError:
        return None


@given(layers, st.integers(0, 800), st.sampled_from(list(SHAPES)), st.integers(0, 3), st.none() | st.integers(3, 20))
def test_a_total_is_spent_exactly_within_the_bounds(num_layers, total, shape, low, high):
    vector = allocated(num_layers, shape=shape, total=total, min=low, max=high)
    without = num_layers // 2 if shape == "top" else 0
    filled = num_layers - without
    feasible = max(1, low * filled) <= total <= (high or total) * filled
    odd = shape in SYMMETRIC and num_layers % 2 == 0 and total % 2 == 1
    assert (vector is None) == (not feasible or odd)
    if vector is not None:
        assert len(vector) == num_layers
        assert sum(vector) == total
        assert not any(vector[:without])
        assert low <= min(vector[without:])
        assert max(vector) <= (high or total)


@given(layers, means)
def test_named_shapes_at_the_same_mean_have_the_same_total(num_layers, mean):
    totals = {sum(vector) for shape in SHAPES if (vector := allocated(num_layers, shape=shape, mean=mean))}
    assert len(totals) == 1


@pytest.mark.parametrize("num_layers", range(1, 101))
def test_at_the_papers_mean_every_shape_exists_and_has_the_papers_total(num_layers):
    for shape in SHAPES:
        assert sum(experts_per_layer(Allocation(shape=shape), num_layers)) == 5 * num_layers


@given(layers, means)
def test_triangle_is_inverted_reversed(num_layers, mean):
    inverted = allocated(num_layers, shape="inverted", mean=mean)
    assert allocated(num_layers, shape="triangle", mean=mean) == inverted[::-1]
    assert list(inverted) == sorted(inverted)


@given(layers, means)
def test_top_gives_the_upper_half_all_and_rises(num_layers, mean):
    top = allocated(num_layers, shape="top", mean=mean)
    assert sum(top) == sum(allocated(num_layers, shape="rectangle", mean=mean))
    assert [count == 0 for count in top] == [2 * (layer + 1) <= num_layers for layer in range(num_layers)]
    assert list(top) == sorted(top)


@given(layers, st.fractions("1/4", 2, max_denominator=4).map(float))
def test_with_a_least_of_none_shapes_below_one_expert_a_layer_keep_their_total_and_order(num_layers, mean):
    found = {shape: allocated(num_layers, shape=shape, mean=mean, min=0) for shape in SHAPES}
    made = {shape: vector for shape, vector in found.items() if vector is not None}
    assert {sum(vector) for vector in made.values()} <= {int(mean * num_layers + 0.5)}
    assert (not made) == (int(mean * num_layers + 0.5) == 0)
    for shape in {"inverted", "top"} & set(made):
        assert list(made[shape]) == sorted(made[shape])
    if made:
        assert made["triangle"] == made["inverted"][::-1]


@given(layers, means, st.sampled_from(SYMMETRIC))
def test_hourglass_and_diamond_are_their_own_mirror_images(num_layers, mean, shape):
    vector = allocated(num_layers, shape=shape, mean=mean)
    assert vector is None or vector == vector[::-1]


BANDS = {
    "inverted": (2, 4, 6, 8),
    "triangle": (8, 6, 4, 2),
    "hourglass": (8, 2, 2, 8),
    "rectangle": (5, 5, 5, 5),
    "diamond": (2, 8, 8, 2),
    "top": (0, 0, 8, 12),
}


@pytest.mark.parametrize("shape", BANDS)
def test_thirty_two_layers_at_mean_five_give_the_papers_vectors(shape):
    expected = tuple(count for count in BANDS[shape] for _ in range(8))
    assert experts_per_layer(Allocation(shape=shape), 32) == expected
    assert experts_per_layer(Allocation(bands=list(BANDS[shape])), 32) == expected


@given(layers, st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any))
def test_bands_keep_their_mean_and_rounding_mirrors(num_layers, bands):
    vector = allocated(num_layers, bands=bands)
    if vector is None:
        assert bands == bands[::-1]
        return
    assert abs(sum(vector) - num_layers * sum(bands) / len(bands)) <= 0.5
    if bands != bands[::-1]:
        assert sum(allocated(num_layers, bands=bands[::-1])) == sum(vector)
        assert allocated(num_layers, bands=bands[::-1]) == vector[::-1]


some_bands = st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any)
bands_or_mirrored = some_bands | st.builds(
    lambda bands, middle: bands + bands[::-1][middle:], some_bands, st.integers(0, 1)
)


@given(st.integers(1, 20), bands_or_mirrored, st.integers(0, 2), st.none() | st.integers(2, 9))
def test_just_the_layers_over_bands_of_none_have_none_and_the_others_keep_the_bounds(num_layers, bands, low, high):
    vector = allocated(num_layers, bands=bands, min=low, max=high)
    total = int(sum(bands) * num_layers / len(bands) + 0.5)
    ends = [
        (layer * len(bands) // num_layers, -(-(layer + 1) * len(bands) // num_layers)) for layer in range(num_layers)
    ]
    has_share = [any(bands[first:last]) for first, last in ends]
    is_possible = max(1, low * sum(has_share)) <= total <= (high or total) * sum(has_share)
    is_mirrored = bands == bands[::-1] and len(set(bands)) > 1
    has_middle = num_layers % 2 == 1 and has_share[num_layers // 2]
    assert (vector is None) == (not is_possible or (is_mirrored and total % 2 == 1 and not has_middle))
    if vector is not None:
        assert sum(vector) == total
        assert all(
            low <= count <= (high or total) if on else not count for on, count in zip(has_share, vector, strict=True)
        )


def test_an_explicit_list_is_taken_as_it_is():
    assert experts_per_layer(Allocation(layers=[3, 1, 4]), 3) == (3, 1, 4)
    assert experts_per_layer(Allocation(layers=[0, 4, 0]), 3) == (0, 4, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layers": [0, 0, 0, 0, 0, 0]}, ".layers must give some layer an expert, got [0, 0, 0, 0, 0, 0]"),
        ({"bands": [0, 0]}, ".bands must give some layer an expert, got [0, 0]"),
        ({"layers": [0, -1, 1, 1, 1, 1]}, ".layers must be counts of at least 0"),
        ({"min": -1}, ".min must be at least 0, got -1"),
        ({"min": 0, "max": 0}, ".max must be at least 1, got 0"),
    ],
)
def test_what_trains_nothing_is_said(settings, said):
    (problem,) = Allocation(**settings).problems()
    assert said in problem


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "inverted", "total": 3}, "got a total of 3; the nearest possible is total=6"),
        ({"shape": "inverted", "total": 99, "max": 8}, "the nearest possible is total=48"),
        ({"shape": "hourglass", "mean": 2.5}, "the nearest possible is total=14 or total=16"),
        ({"layers": [1, 2]}, "each of the 6 layers, got 2; or give method.allocation.bands, which stretch over any"),
        ({"layers": [1, 2, 2, 2, 2, 9], "max": 8}, "must be 0 or lie between 1 and 8"),
        ({"layers": [0, 1, 2, 2, 2, 2], "min": 2}, "must be 0 or lie between 2 and 2"),
        ({"shape": "inverted", "total": 0, "min": 0}, "got a total of 0; the nearest possible is total=1"),
        ({"shape": "top", "total": 2}, "must spend between 3 and"),
        ({"bands": [8, 0, 0, 8], "mean": None, "total": None, "min": 9}, "got a total of 24; the nearest"),
    ],
)
def test_an_impossible_request_names_the_nearest_possible_one(settings, message):
    with pytest.raises(ConfigError, match=r"method\.allocation") as error:
        experts_per_layer(Allocation(**settings), 6)
    assert message in str(error.value)


def test_a_random_allocation_is_that_of_its_seed_and_each_possible_one_is_equally_likely():
    settings = {"shape": "random", "total": 6, "min": 1, "max": 3}
    drawn = [allocated(3, **settings, seed=seed) for seed in range(2100)]
    assert drawn == [allocated(3, **settings, seed=seed) for seed in range(2100)]
    possible = {(a, b, 6 - a - b) for a in (1, 2, 3) for b in (1, 2, 3) if 1 <= 6 - a - b <= 3}
    assert set(drawn) == possible
    share, spread = len(drawn) / len(possible), 5 * (len(drawn) / len(possible)) ** 0.5  # five standard deviations
    assert all(abs(count - share) < spread for count in Counter(drawn).values())


def test_the_shapes_are_the_papers_and_the_random_one():
    assert set(SHAPES) >= {*BANDS, "random"}


def test_a_shape_that_registers_itself_can_be_chosen_and_is_known_to_hints(monkeypatch, capsys):
    monkeypatch.setitem(SHAPES, "steep", Shape(Bands((1, 1, 1, 17))))
    settings = ["plan", "model=tiny_bert", "method=mola", "method.clip_top_k=true"]
    assert main([*settings, "method.allocation.shape=steep"]) == 0
    assert "1 1 1 17" in capsys.readouterr().out
    assert main([*settings, "method.allocation.shape=steap"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("got 'steap'; did you mean steep?")
    assert "method.allocation.shape must be one of diamond, hourglass, inverted, random, rectangle, top," in line
