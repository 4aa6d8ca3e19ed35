"""Forest plots: which differences are drawn, where, and how."""

import math
import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from molex_cli.compare import forest, plots, svg
from molex_cli.compare.effects import Effect

ONE = Effect("rte", "A", "Z", 1.0, 0.0, 2.0, 0.03, 5, "significant", "over seeds", "accuracy %")


def drawn(effects, width=4.0):
    """Return the plot's SVG, the texts in it, and the styles of its classes."""
    styles = svg.StyleSheet()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = svg.inline(forest.forest(effects, width, 8.0), "name", "p-", styles)
    root = ElementTree.fromstring(text)
    return root, [each.text for each in root.iter("text")], f"{text}{styles}"


def lines_of(figure):
    """Return the intervals and the estimates that are drawn, by what their tooltips tell."""
    found = {}
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_gid():
                found.setdefault(line.get_gid().split(",")[0], []).append(line)
    return found


def test_each_difference_is_a_row_with_its_interval_and_its_estimate_at_one_height():
    figure = forest.forest([ONE, replace(ONE, one="B", estimate=-1.0, low=-1.5, high=-0.5)], 3.3, 7.0)
    rows = lines_of(figure)
    assert list(rows) == ["rte: A - Z = +1.00", "rte: B - Z = -1.00"]
    (interval, estimate), (_, below) = rows.values()
    assert list(interval.get_xdata()) == [0.0, 2.0]
    assert list(estimate.get_xdata()) == [1.0]
    assert {*interval.get_ydata()} == {*estimate.get_ydata()}
    assert below.get_ydata()[0] < estimate.get_ydata()[0]
    zero = next(line for line in figure.axes[0].lines if list(line.get_xdata()) == [0, 0] and not line.get_gid())
    assert min(zero.get_ydata()) < below.get_ydata()[0] < estimate.get_ydata()[0] < max(zero.get_ydata())


def test_columns_are_groups_that_name_the_arm_that_all_are_compared_with():
    effects = [ONE, replace(ONE, column="cola", one="C"), replace(ONE, one="B")]
    _, texts, _ = drawn([*effects, replace(ONE, column="cola", one="D", other="Y")])
    names = [each for each in texts if each in ("A", "B", "C − Z", "D − Y", "rte: difference from Z", "cola")]
    assert sorted(names) == sorted(["A", "B", "C − Z", "D − Y", "rte: difference from Z", "cola"])


def test_other_units_have_axes_of_their_own():
    other = replace(ONE, column="e2e", metric="loss", higher_is_better=False, estimate=100.0, low=90.0, high=110.0)
    figure = forest.forest([ONE, other], 3.3, 7.0)
    first, second = figure.axes
    assert first.get_xlim()[1] < 3 < 100 < second.get_xlim()[1]
    _, texts, _ = drawn([ONE, other])
    assert "difference in accuracy %" in texts
    assert "(higher is better)" in texts
    assert "difference in loss" in texts
    assert "(lower is better)" in texts


def test_a_bound_that_is_unknown_or_far_off_is_an_arrow_at_the_edge():
    unknown = replace(ONE, one="B", low=-math.inf, high=math.inf)
    far = replace(ONE, one="C", estimate=0.5, low=-50.0, high=2.5)
    figure = forest.forest([ONE, replace(ONE, one="D"), unknown, far], 3.3, 7.0)
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    assert low > -15
    arrows = [(line.get_marker(), line.get_xdata()[0]) for line in axes.lines if line.get_marker() in "<>"]
    assert [marker for marker, _ in arrows] == ["<", ">", "<"]
    assert all(low < x < high for _, x in arrows)
    intervals = [each[0].get_xdata() for each in lines_of(figure).values()]
    assert all(low < x < high for each in intervals for x in each)


@pytest.mark.parametrize(
    "effects",
    [
        [replace(ONE, low=-math.inf, high=math.inf)],
        [replace(ONE, estimate=0.0, low=-math.inf, high=math.inf)],
        [replace(ONE, estimate=0.0, low=0.0, high=0.0)],
        [replace(ONE, low=1.0, high=1.0)],
        [replace(ONE, estimate=1e-9, low=-1e-9, high=1e9)],
    ],
)
def test_zero_and_every_estimate_are_always_within_the_axes(effects):
    low, high = forest.forest(effects, 3.3, 7.0).axes[0].get_xlim()
    assert low < 0 < high
    assert all(low < each.estimate < high for each in effects)
    assert math.isfinite(high - low)


def test_verdicts_are_told_apart_without_colours_and_the_legend_has_those_that_occur():
    words = ("significant", "not significant", "undecided, collapses", "contradicted", "no p of so few seeds")
    looks = [forest.look_of(each) for each in words]
    assert len({(look.marker, look.is_full) for look in looks}) == len(words)
    assert forest.look_of("supported when it trains") == forest.look_of("significant when it trains") == looks[0]
    _, texts, _ = drawn([replace(ONE, verdict=each) for each in (*words[:3], "significant when it trains")])
    assert [each for each in texts if each in (*words, "undecided")] == ["significant", "not significant", "undecided"]


def many(number, **changed):
    own = replace(ONE, **changed)
    return [replace(own, one=f"arm {i:02}", estimate=float(i), low=i - 1.0, high=i + 1.0) for i in range(number)]


@pytest.mark.parametrize("is_better", [True, False])
def test_of_too_many_the_best_of_each_column_are_drawn_and_the_rest_is_counted(is_better):
    both = [*many(40, higher_is_better=is_better), *many(35, column="cola", higher_is_better=is_better)]
    shown = forest.drawn(both)
    assert len(shown) == forest.MOST == 48
    assert [each for each in both if each in shown] == shown  # in their order
    expected = range(40 - 24, 40) if is_better else range(24)
    assert [each.estimate for each in shown if each.column == "rte"] == list(expected)
    _, texts, _ = drawn(both, width=6.0)
    assert "not drawn: 27 of 75 differences, the worst" in " ".join(texts)
    assert sum(each.startswith("arm ") for each in texts) == 48


def test_a_difference_without_an_estimate_is_counted_and_not_drawn():
    none = replace(ONE, one="B", estimate=math.nan, low=math.nan, high=math.nan, verdict="no seed in common")
    assert forest.drawn([ONE, none]) == [ONE]
    assert forest.drawn([none]) == []
    _, texts, _ = drawn([ONE, none], width=6.0)
    assert "not drawn: 1 of 2 differences, without an estimate" in " ".join(texts)
    assert "B" not in texts
    assert not any("not drawn" in each for each in drawn([ONE])[1])


def test_the_plot_is_as_high_as_it_has_rows():
    few, more = (forest.forest(many(number), 3.3, 7.0).get_figheight() for number in (3, 30))
    assert few < 2.0 < more
    assert forest.forest(many(100), 3.3, 7.0).get_figheight() == forest.forest(many(60), 3.3, 7.0).get_figheight() < 10


def test_long_names_take_several_lines_and_lose_nothing_that_tells_them_apart():
    names = [f"lora (method.learning_rate=0.00{i}, method.rank=4)" for i in (1, 5)]
    _, texts, _ = drawn([replace(ONE, one=name, other="base") for name in names], width=3.3)
    for name in names:
        assert name.replace(" ", "") in "".join(texts).replace(" ", "")
    _, texts, _ = drawn([replace(ONE, one="x" * 5000)])
    assert sum(each.count("x") for each in texts) < 200
    assert any(each.endswith("…") for each in texts)


def test_a_page_gets_colours_of_its_own_and_names_as_text():
    odd = '$x_$ </title><script>"1"</script>&amp;'
    root, texts, content = drawn([replace(ONE, one=odd), replace(ONE, verdict="not significant")])
    assert "<script" not in content
    assert odd.replace(" ", "") in "".join(texts).replace(" ", "")
    assert any(odd in title.text for title in root.iter("title"))
    assert "var(--back)" in content  # of a hollow marker
    assert not re.search(r"#(000000|fefefe|ffffff)|url\(", content)
    assert plots.BACK not in content
