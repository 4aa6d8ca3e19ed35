"""The page as it is measured in a browser: on a phone and a wide screen, light, dark and on paper, by keyboard."""

import json
from pathlib import Path

import pytest
from support.browser import tab
from support.made_records import leave

from molex_cli.cli import main

LONG = "a_method_whose_name_tells_every_one_of_its_settings_and_then_some_more_of_them_without_any_space"
KINDS = {
    "one": {"arms": ["lora"]},
    "three": {"arms": ["lora", "mola", "molex"], "steps": (0, 50, 100)},
    "twelve": {"arms": [f"arm{number}" for number in range(12)], "tasks": ("rte", "sst2")},
    "long": {"arms": [LONG, f"{LONG} and spaces", "mola"], "tasks": (f"own_{LONG}", "rte")},
    "single": {"arms": ["lora", "mola"], "seeds": (0,)},
    "wide": {"arms": ["mola"], "experts": 40},
}
MEASURED = """(() => {
  const boxes = [...document.querySelectorAll(".scroll")];
  return {
    page: [document.documentElement.scrollWidth, innerWidth],
    cut: boxes.filter(each => each.scrollWidth > each.clientWidth).length,
    silent: boxes.filter(each => each.scrollWidth > each.clientWidth &&
      (!each.nextElementSibling.checkVisibility() || each.tabIndex !== 0 ||
       !getComputedStyle(each).backgroundAttachment.includes("local"))).length,
    needless: boxes.filter(each => each.scrollWidth <= each.clientWidth &&
      (each.nextElementSibling.checkVisibility() || each.tabIndex === 0)).length,
    errors,
  };
})()"""
CONTRAST = """(() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => parse(colour).slice(0, 3).map(each => each / 255)
    .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, i) => sum + each * [0.2126, 0.7152, 0.0722][i], 0);
  const back = light(getComputedStyle(document.body).backgroundColor);
  const found = {};
  for (const each of document.querySelectorAll("body *:not(script)")) {
    if (![...each.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    if (each.closest(".hidden, title, input")) continue;
    const style = getComputedStyle(each);
    if (each.tagName === "text" && style.fill !== style.color) continue;  // on a cell of a heat map
    const own = light(each.tagName === "text" ? style.fill : style.color);
    found[`${each.tagName}.${each.className}`] = (Math.max(own, back) + 0.05) / (Math.min(own, back) + 0.05);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def browser():
    with tab() as one:
        yield one


def page(arms, tasks=("rte",), seeds=(0, 1, 2), steps=(200,), experts=8):
    """Return the page of such runs."""
    for number, arm in enumerate(arms):
        for task in tasks:
            for seed in seeds:
                folder = Path(f"outputs/{task[:9]}-{arm[:9]}{number}-s{seed}")
                usage = [1 / experts] * experts
                leave(folder, arm, seed, 0.6 + 0.02 * number, task=task, routing={"0": {"usage": usage}})
                events = [{"event": "evaluated", "step": step, "scores": {"accuracy": 0.6}} for step in steps]
                (folder / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    assert main(["compare", "outputs", "--html", "page.html"]) == 0
    return Path("page.html")


@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_never_scrolls_sideways_and_says_what_is_cut(kind, browser):
    made = page(**KINDS[kind])
    for width in (390, 1400):
        browser.open(made, width)
        found = browser.value(MEASURED)
        assert found["errors"] == []
        assert found["page"][0] <= found["page"][1] == width
        assert (found["silent"], found["needless"]) == (0, 0)
        assert found["cut"] or width > 390  # the tables do not fit a phone


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(scheme, browser):
    browser.open(page(**KINDS["three"]), 390, scheme=scheme)
    found = browser.value(CONTRAST)
    assert len(found) > 10
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


@pytest.mark.browser
def test_a_heading_is_larger_than_those_under_it(browser):
    browser.open(page(**KINDS["three"]))
    sizes = [
        float(browser.value(f"getComputedStyle(document.querySelector('{each}')).fontSize").removesuffix("px"))
        for each in ("h1", "h2", "h3", "li")
    ]
    assert sizes[0] > sizes[1] > sizes[2] >= sizes[3]
    levels = browser.value("[...document.querySelectorAll('h1, h2, h3')].map(each => each.tagName[1]).join('')")
    assert "13" not in levels


@pytest.mark.browser
def test_headings_look_sortable_and_sort_by_keyboard(browser):
    browser.open(page(**KINDS["three"]))
    after = "getComputedStyle(document.querySelector('#arms th button'), '::after').content"
    assert "↕" in browser.value(after)
    assert browser.value("getComputedStyle(document.querySelector('#arms th button')).cursor") == "pointer"
    browser.value("document.getElementById('filter').focus()")
    while browser.value("document.activeElement.tagName") != "BUTTON":
        browser.press("Tab")
    for arrow, direction in (("▲", "ascending"), ("▼", "descending")):
        browser.press("Enter", "\r")
        assert browser.value("document.querySelector('#arms th').getAttribute('aria-sort')") == direction
        assert arrow in browser.value(after)
    assert browser.value("[...document.querySelectorAll('#arms td:first-child')].map(e => e.textContent)") == [
        "MOLEX",
        "MOLA",
        "LORA",
    ]
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.browser
def test_what_has_no_number_is_sorted_last_either_way(browser):
    made = page(**KINDS["three"])
    browser.open(made)
    script = """(() => { const row = document.querySelectorAll("#arms tbody tr")[1];
      row.cells[1].textContent = "undefined"; row.cells[1].dataset.value = "nan";
      const button = document.querySelectorAll("#arms th button")[1], last = [];
      for (const _ of [0, 1]) {
        button.click();
        last.push(document.querySelector("#arms tbody tr:last-child").cells[1].textContent);
      }
      return last; })()"""
    assert browser.value(script) == ["undefined", "undefined"]


@pytest.mark.browser
def test_a_table_is_scrolled_by_keyboard_and_keeps_its_names(browser):
    browser.open(page(**KINDS["three"]), 390)
    browser.value("document.querySelector('.scroll').focus()")
    for _ in range(5):
        browser.press("ArrowRight")
    browser.value("new Promise(done => setTimeout(done, 500))")
    assert browser.value("document.querySelector('.scroll').scrollLeft") > 0
    assert browser.value("document.querySelector('#arms td').getBoundingClientRect().left >= 0")


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["three", "long"])
def test_on_paper_the_page_is_light_and_nothing_is_cut(kind, browser):
    browser.open(page(**KINDS[kind]), 720, scheme="dark")
    browser.media("dark", "print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    tables = "[...document.querySelectorAll('table')].every(each => each.getBoundingClientRect().right <= innerWidth)"
    assert browser.value(tables)
    assert not browser.value("document.getElementById('filter').checkVisibility()")
