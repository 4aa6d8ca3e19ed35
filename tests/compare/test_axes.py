"""Axes that can be read: ticks told apart, scores within their range, no point behind another."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.made_records import leave, table_of

from molex_cli.cli import main
from molex_cli.compare import pictures, plots
from molex_cli.compare.axes import MARKER, beside
from molex_cli.compare.heat_map import _Colours, _linear, usage_map
from molex_cli.compare.plots import Line, Point

SHARES = (0.0, 100.0)
NUMBERS = st.floats(1e-3, 1e7)


def labels(axis):
    """Return what is written at the ticks that can be seen."""
    low, high = sorted(axis.get_view_interval())
    ticks = zip(
        axis.get_majorticklocs(), axis.get_major_formatter().format_ticks(axis.get_majorticklocs()), strict=True
    )
    return [text for place, text in ticks if low <= place <= high]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=4), st.booleans())
@example([(0.125, 1.0), (4203997.0, 1.0)], True)
def test_no_two_ticks_of_an_axis_have_the_same_label(places, logarithmic):
    points = [Point(str(i), x, y, y, y) for i, (x, y) in enumerate(places)]
    (axes,) = plots.scatter("", points, x="x", y="y", logarithmic=logarithmic).axes
    for axis in (axes.xaxis, axes.yaxis):
        found = labels(axis)
        assert 1 <= len(found) == len(set(found)) <= 10


def test_a_short_axis_of_costs_has_thousands_without_needless_zeros():
    points = [Point("a", 950, 1, 1, 1), Point("b", 1050, 2, 2, 2)]
    (axes,) = plots.scatter("", points, x="x", y="y", logarithmic=True).axes
    assert {"960", "1k", "1.04k"} <= set(labels(axes.xaxis))


@pytest.mark.parametrize("y", [0.9, 0.91, 0.9001])
def test_scores_that_are_close_have_ticks_of_as_many_digits_as_it_takes(y):
    (axes,) = plots.line_chart("", [Line("a", [1, 2], [0.9, y])], x="x", y="y").axes
    found = labels(axes.yaxis)
    assert len(found) == len(set(found)) >= 2


@pytest.mark.parametrize("values", [[100, 100], [0, 0], [99, 100], [0, 100]])
def test_an_axis_of_shares_ends_at_0_and_100(values):
    line = Line("a", [1, 2], values, values, values)
    for figure in (
        plots.line_chart("", [line], x="x", y="y", limits=SHARES),
        plots.scatter("", [Point("a", 1, values[0], values[0], values[1])], x="x", y="y", limits=SHARES),
    ):
        low, high = figure.axes[0].get_ylim()
        assert 0 <= low < high <= 100


def test_curves_of_a_comparison_begin_at_step_0_and_stay_within_100(monkeypatch):
    made = comparison([100.0, 100.0], steps=(50, 100))
    (axes,) = next(pictures.curves(made)).figure.axes
    assert axes.get_xlim()[0] == 0
    assert axes.get_ylim()[1] <= 100
    for picture in pictures.costs(made):
        assert picture.figure.axes[0].get_ylim()[1] <= 100
        assert all(value <= 100 for line in picture.figure.axes[0].lines for value in line.get_ydata())


def test_one_evaluation_is_a_dot_with_a_bar_from_the_worst_to_the_best_seed():
    (axes,) = next(pictures.curves(comparison([60.0, 70.0], steps=(200,)))).figure.axes
    bar, dot = axes.lines
    assert (list(bar.get_ydata()), list(dot.get_ydata())) == ([60, 70], [65])
    assert dot.get_marker() == "o"


def comparison(scores, steps):
    """Return the table of an arm whose seeds have scores, in percent, at all of some steps."""
    for seed, score in enumerate(scores):
        folder = Path(f"outputs/lora-s{seed}")
        leave(folder, "lora", seed, score / 100)
        events = [{"event": "evaluated", "step": step, "scores": {"accuracy": score / 100}} for step in steps]
        (folder / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    return table_of(Path("outputs"))


@settings(max_examples=50, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.11, 0.5]), st.sampled_from([0.2, 0.21, 0.9])), max_size=12))
def test_no_marker_hides_another_and_what_hides_none_stays(places):
    moves = beside(places)
    shown = [(x + by, y) for (x, y), by in zip(places, moves, strict=True)]
    assert all(math.dist(*pair) >= 0.98 * MARKER for pair in itertools.combinations(shown, 2))
    assert moves[:1] in ([], [0.0])
    assert moves == beside(places)


def test_equal_arms_and_equal_curves_are_drawn_side_by_side():
    points = [Point(name, 1e3, 50, 40, 60) for name in "ab"]
    (axes,) = plots.scatter("", points, x="x", y="y", logarithmic=True).axes
    first, second = (line.get_xdata()[0] for line in axes.lines if line.get_gid() in ("a", "b"))
    assert first != second
    lines = [Line("a", [1, 2], [3, 4]), Line("b", [1, 2], [3, 4]), Line("c", [1, 2], [4, 4])]
    (axes,) = plots.line_chart("", lines, x="x", y="y").axes
    one, two, other = (list(line.get_xdata()) for line in axes.lines)
    assert one == other == [1, 2]
    assert two != one


def test_the_use_of_experts_is_relative_to_their_number_with_a_scale():
    figure = usage_map("", ["layer 0", "layer 1"], [[0.5, 0.5], [0.7, 0.1, 0.1, 0.1]])
    texts = [each.get_text() for each in figure.axes[0].texts]
    assert texts[:6] == ["1.00", "1.00", "2.80", "0.40", "0.40", "0.40"]
    assert texts[6:] == [
        "0.00",
        "0.50",
        "1.00",
        "1.90",
        "2.80",
        "share of the routing x number of experts (1: uniform)",
    ]


@pytest.mark.parametrize("middle", [None, 1.0])
def test_every_number_in_a_cell_can_be_read(middle):
    colours = _Colours([0.0, 3.0], middle)
    for step in range(301):
        fill, ink = colours.of(step / 100)
        dark, bright = sorted(map(brightness, (fill, [int(ink[i : i + 2], 16) / 255 for i in (1, 3, 5)])))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


def brightness(colour):
    return sum(share * _linear(each) for share, each in zip((0.2126, 0.7152, 0.0722), colour, strict=True))


def test_an_undefined_score_is_said_with_its_reason_and_what_it_counts_as():
    scores = {"step": 9, "epoch": 1.0, "loss": 0.5, "scores": {"matthews": None}}
    why = ["matthews is undefined", "all predictions are the same"]
    told = {"metric": "matthews", "last": scores, "best": scores, "selection": "s", "constant": {}}
    for seed in (0, 1):
        leave(Path(f"outputs/odd-s{seed}"), "odd", seed, metric="matthews", scores=told, degenerate=why)
        leave(Path(f"outputs/mola-s{seed}"), "mola", seed, 0.7, metric="matthews")
        for arm in ("odd", "mola"):
            events = [
                {"event": "evaluated", "step": step, "scores": {"matthews": 0.1 if step == 9 else None}}
                for step in (5, 9)
            ]
            path = Path(f"outputs/{arm}-s{seed}/events.jsonl")
            path.write_text("".join(json.dumps(each) + "\n" for each in events))
    assert main(["compare", "outputs", "--html", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert page.count("undefined: all predictions are the same; counts as 0.00") == 2
    assert re.search(r"undefined, so not drawn: MOLA, seed 0, step 5; .*ODD, seed 1, step 5</figcaption>", page)


def test_an_arm_without_a_cost_is_said_to_be_missing():
    leave(Path("outputs/a"), "lora", 0, 0.5)
    leave(Path("outputs/b"), "mola", 0, 0.5, training={})
    captions = [picture.caption for picture in pictures.costs(table_of(Path("outputs")))]
    assert [("not drawn: 1 arm " in caption) for caption in captions] == [False, True]
