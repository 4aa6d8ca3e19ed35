"""Charts and heat maps: what is drawn, and what a page gets of it."""

import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from molex_cli.compare import plots, svg
from molex_cli.compare.heat_map import heat_map
from molex_cli.compare.plots import Level, Line, Point


def drawn(figure, prefix="a-"):
    """Return the SVG of a page as an element, and as text with the styles of its classes."""
    styles = svg.StyleSheet()
    text = svg.inline(figure, 'name & "more" <b>', prefix, styles)
    return ElementTree.fromstring(text), f"{text}{styles}"


def titles(element):
    return [title.text for title in element.iter("title")]


def test_each_value_is_a_square_with_its_place_and_value_and_nan_is_left_out():
    element, _ = drawn(heat_map("", ["layer 0", "layer 1"], [[0.25, 0.75], [math.nan, 1234.5]], columns="linear"))
    places = ["layer 0, linear 0: 0.250", "layer 0, linear 1: 0.750", "layer 1, linear 1: 1234.500"]
    assert titles(element) == [*places, *(f"scale: {value}" for value in ("0.25", "309", "617", "926", "1.23e+03"))]
    texts = [text.text for text in element.iter("text")]
    assert {"layer 0", "layer 1", "linear", "0.25", "0.75"} <= set(texts)
    assert "1234" in texts  # rounded to fit its square
    assert element.find(".//image") is None


def test_empty_and_constant_maps_are_drawn():
    for values in ([], [[]], [[0.5, 0.5]], [[math.nan]]):
        figure = heat_map("title", [f"row {i}" for i in range(len(values))], values)
        assert plots.png(figure).read(4) == b"\x89PNG"


def test_a_curve_has_a_band_where_it_is_given_and_another_style_when_colours_are_used_up():
    lines = [
        Line("one", [1, 2], [0.1, 0.2], [0.0, 0.1], [0.3, 0.4]),
        Line("two", [1, 2], [0.5, 0.6], colour=8, style=1),
    ]
    element, text = drawn(plots.line_chart("", lines, [Level("base", 0.4, 2)], x="x", y="y", legend=False))
    assert titles(element) == ["one", "two", "base"]
    assert text.count("opacity: 0.15") == 1
    assert "stroke: var(--c0)" in text
    assert "stroke-dasharray" in text


def test_a_page_gets_no_size_no_foreign_name_and_no_colour_that_dark_would_hide():
    _, text = drawn(plots.scatter("", [Point("a", 1e3, 0.5, 0.4, 0.6), Point("b", 2e3, 0.7, 0.7, 0.7)], x="x", y="y"))
    assert text.startswith('<svg viewBox="0 0 ')
    assert not re.search(r"url\(|https?:|<style|<\?xml|<!|<metadata|#000000|font-family|style=|\d\.\d{3}", text)
    assert (
        text
        == drawn(plots.scatter("", [Point("a", 1e3, 0.5, 0.4, 0.6), Point("b", 2e3, 0.7, 0.7, 0.7)], x="x", y="y"))[1]
    )


def test_names_are_text_and_no_markup():
    odd = '</title><script>"1"</script>&amp; ▽'
    element, text = drawn(plots.line_chart("", [Line(odd, [0], [1])], x=odd, y="y", legend=False))
    assert "<script" not in text
    assert titles(element) == [odd]
    assert odd in [each.text for each in element.iter("text")]
    assert element.get("aria-label") == 'name & "more" <b>'


POINTS = [Point("cheap", 1, 5, 5, 5), Point("good", 3, 9, 9, 9), Point("beaten", 4, 8, 8, 8), Point("dear", 2, 5, 5, 5)]


@pytest.mark.parametrize(("better_high", "names"), [(True, ["cheap", "good"]), (False, ["cheap"])])
def test_the_front_is_what_no_other_beats_in_cost_and_score(better_high, names):
    assert [point.name for point in plots.front(POINTS, higher_is_better=better_high)] == names


def test_equal_arms_are_both_on_the_front():
    assert len(plots.front([Point("a", 1, 5, 5, 5), Point("b", 1, 5, 5, 5)], higher_is_better=True)) == 2


def test_matplotlib_waits_until_something_is_drawn_and_pyplot_is_never_used():
    code = (
        "import sys\nfrom molex_cli.compare import plots, svg\nfrom molex_cli.compare.formats import html\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plots.png(plots.scatter('', [plots.Point('a', 10, 1, 1, 1)], x='x', y='y', logarithmic=True))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_name_with_dollars_is_no_formula():
    """A single brace or underscore behind two dollars would raise."""
    drawn = heat_map("a $x_$ {", ["$y_$"], [[0.5]])
    assert plots.png(drawn).getvalue()
    assert "$x_$" in svg.inline(drawn, "name", "p-", svg.StyleSheet())


@pytest.mark.parametrize("sign", [1, -1])
def test_the_front_is_all_that_no_other_point_beats(sign):
    stream = np.random.default_rng(sign + 1)
    points = [plots.Point(str(i), *stream.integers(0, 6, size=2).tolist(), 0, 0) for i in range(40)]

    def beats(one, other):
        return one.x <= other.x and sign * one.y >= sign * other.y and (one.x, one.y) != (other.x, other.y)

    expected = [p for p in points if not any(beats(other, p) for other in points)]
    assert plots.front(points, higher_is_better=sign > 0) == sorted(expected, key=lambda p: p.x)
