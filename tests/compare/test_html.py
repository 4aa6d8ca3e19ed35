"""The page of a comparison: one file, complete, usable; `make test-browser` opens it."""

import json
import re
from pathlib import Path

import pytest
from support import hostile
from support.browser import opened
from support.made_records import leave, outputs

from molex_cli.cli import main

CHECK = """
const rows = () => [...document.querySelectorAll("#arms tbody tr")].filter(row => !row.hidden);
const names = () => rows().map(row => row.cells[0].textContent);
const found = {first: names(), title: document.title};
const [name, score] = document.querySelectorAll("#arms th button");
score.click(); found.up = names(); score.click(); found.down = names(); name.click(); found.byName = names();
found.sorted = document.querySelector("#arms th").getAttribute("aria-sort");
const filter = document.getElementById("filter");
const compared = [...document.querySelectorAll("#differences tbody tr")];
filter.value = "mol"; filter.dispatchEvent(new Event("input")); found.filtered = names();
found.compared = compared.filter(row => !row.hidden).map(row => row.cells[0].textContent);
found.status = document.getElementById("count").textContent;
found.wide = document.documentElement.scrollWidth <= window.innerWidth;
found.requests = performance.getEntriesByType("resource").length;
const style = of => getComputedStyle(document.querySelector(`.charts:has(.key) ${of}`));
found.drawn = [style("path[class]").strokeWidth, style(".key span").borderTopColor, style("svg").maxWidth];
"""


@pytest.fixture
def page():
    """Return a page over three arms in one column, with curves and experts."""
    outputs(lora=0.6, molex=0.75)
    for seed in (0, 1, 2):
        routing = {"0": {"usage": [0.5, 0.5]}, "1": {"usage": [0.2, 0.3, 0.5]}}
        leave(Path(f"outputs/mola-s{seed}"), "mola", seed, 0.9, routing=routing)
    for folder in Path("outputs").iterdir():
        events = [{"event": "evaluated", "step": s, "scores": {"accuracy": 0.5 + s / 100}} for s in (5, 10)]
        (folder / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    assert main(["compare", "outputs", "--html", "outputs/report.html"]) == 0
    return Path("outputs/report.html")


def test_the_page_is_one_file_that_asks_for_nothing(page):
    text = page.read_text()
    assert not re.search(r'(src|href)="(https?:)?//|@import|url\(', text)
    assert "default-src 'none'" in text
    for words in (
        "LORA",
        "MOLA",
        "63.00 ± 0.87 (3)",
        "Learning curves",
        "Score against cost",
        "share of the routing x number of experts",
    ):
        assert words in text
    assert 'href="lora-s0/record.json"' in text
    for arm in ("LORA", "MOLEX", "MOLA"):
        assert text.count(f"<g><title>{arm}</title><path d=") == 1  # its curve
        assert text.count(f"<title>{arm}</title>") == 1 + 2  # and a point for each cost
    assert text.count("<title>no arm is better and cheaper</title><path d=") == 2
    assert "<title>layer 1, expert 2: 1.500</title>" in text  # a share of 0.5 of three experts


def test_pictures_have_names_for_all_readers_and_ids_of_their_own(page):
    text = page.read_text()
    pictures = re.findall(r"<svg [^>]*>", text)
    assert len(pictures) == 1 + 1 + 2 + 1
    assert all('role="img"' in each and re.search(r'aria-label="[^"]+"', each) for each in pictures)
    assert text.count("<figcaption>") == len(pictures)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)
    colours = {f"--c{i}" for i in range(8)}
    assert colours | {"--line", "--soft", "--back"} >= set(
        re.findall(r"var\((--\w+)\)", "".join(re.findall(r"<svg.*?</svg>", text)))
    )


def test_the_same_runs_make_the_same_page_and_leave_no_trace_in_matplotlib(page):
    import matplotlib

    before, content = dict(matplotlib.rcParams), page.read_text()
    assert main(["compare", "outputs", "--html", "outputs/report.html"]) == 0
    assert page.read_text() == content
    assert dict(matplotlib.rcParams) == before
    assert len(content) < 40_000


def test_texts_of_runs_are_no_markup():
    leave(Path("outputs/odd"), "<b>odd</b>", 0, 0.5, display={"method": "<script>alert(1)</script>"})
    assert main(["compare", "outputs", "--html", "report.html"]) == 0
    assert "<script>alert" not in Path("report.html").read_text()


def test_a_page_of_many_arms_draws_the_best_and_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr("molex_cli.compare.plots.LOOKS", 2)
    for module in ("pictures", "formats.html"):
        monkeypatch.setattr(f"molex_cli.compare.{module}.MOST_MAPS", 1)
    monkeypatch.setattr("molex_cli.compare.formats.html.MOST_RUNS", 3)
    for number in range(4):
        folder = Path(f"outputs/m{number}")
        leave(folder, f"m{number}", 0, 0.5 + number / 10, routing={"0": {"usage": [0.5, 0.5]}})
        (folder / "events.jsonl").write_text('{"event": "evaluated", "step": 5, "scores": {"accuracy": 0.5}}\n')
    assert main(["compare", "outputs", "--html", "report.html"]) == 0
    text = Path("report.html").read_text()
    assert "from the worst to the best seed; the 2 best of 4 arms</figcaption>" in text
    assert text.count("over seeds; 2 other arms in grey</figcaption>") == 2
    assert re.findall(r"(M\d), seed 0: use of the experts</figcaption>", text) == ["M3"]
    assert "At most 1 arms with experts are drawn, those of the best scores" in text
    assert set(re.findall(r"</span>(M\d)</li>", text)) == {"M2", "M3"}
    assert "<details><summary>4 runs</summary>" in text
    assert all(f'href="outputs/m{number}/record.json"' in text for number in range(4))


def test_a_page_of_runs_without_curves_or_experts_is_complete():
    outputs(lora=0.6)
    assert main(["compare", "outputs", "--html", "report.html"]) == 0
    assert "No arm has experts" in Path("report.html").read_text()


def test_a_score_that_is_undefined_at_some_step_is_left_out_of_the_curve():
    outputs(lora=0.6)
    lines = ['{"event": "evaluated", "step": 5, "scores": {"accuracy": NaN}}', '{"event": "evalua']
    Path("outputs/lora-s0/events.jsonl").write_text("\n".join(lines))
    assert main(["compare", "outputs", "--html", "report.html"]) == 0
    assert "<h2>Learning curves</h2><p>No curve: no evaluation" in Path("report.html").read_text()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_sorts_and_filters_without_an_error_or_a_request(page, width):
    found, console = opened(page, CHECK, width)
    assert console == []
    assert found["errors"] == []
    assert found["requests"] == 0
    assert found["up"] == ["LORA", "MOLEX", "MOLA"]
    assert found["down"] == ["MOLA", "MOLEX", "LORA"]
    assert found["byName"] == ["LORA", "MOLA", "MOLEX"]
    assert found["sorted"] == "ascending"
    assert found["filtered"] == ["MOLA", "MOLEX"]
    assert found["compared"] == ["MOLEX"]
    assert found["status"] == "2 arms shown"
    assert found["wide"]
    assert found["drawn"] == ["0.8px", "rgb(11, 97, 164)", "553px"]  # the policy lets the styles through


@pytest.mark.browser
def test_hostile_records_run_nothing_in_a_browser():
    hostile.leave("".join(piece for piece in hostile.PIECES if not re.search("[\\ud800-\\udfff]", piece)))
    leave(
        Path("outputs/issue"),
        "x\"'><script>document.title = 1</script>",
        0,
        degenerate=["<img src=x onerror=alert(1)>"],
    )
    assert main(["compare", "outputs", "--cols", "task", "--html", "page.html"]) == 0
    found, console = opened(Path("page.html"), CHECK)
    assert (found["errors"], console, found["requests"]) == ([], [], 0)
    assert found["title"].startswith("molex compare: ")
    assert len(found["first"]) == 4
    assert any("<script>document.title='owned'</script>" in name for name in found["first"])
    assert [name[-1] for name in found["up"] if name[-1] in "ABC"] == ["A", "B", "C"]
    assert [name[-1] for name in found["down"] if name[-1] in "ABC"] == ["C", "B", "A"]


@pytest.mark.browser
def test_the_policy_stops_a_script_that_got_into_the_page(page):
    scripts = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    page.write_text(page.read_text().replace("<h1>", f"{scripts}<h1>"))
    found, console = opened(page, CHECK)
    assert found["title"] == "molex compare: rte minilm"
    assert sum("Content Security Policy" in line for line in console) == 3  # it stops the image too
