"""The site builds without a warning, loads nothing from elsewhere, and has every command and setting."""

import html
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from support.browser import tab

from molex_cli.cli.catalogue import parser_of
from molex_cli.cli.registry import commands
from molex_cli.config import command_line, overrides, reference
from molex_cli.methods.base import METHODS

ROOT = Path(__file__).resolve().parent.parent
LOADED = re.compile(r"<(?:script|link|img|iframe|source|object|embed|video|audio|use)\b[^>]*")
ELSEWHERE = re.compile(r"""(?:src|href|srcset|data)=["']?\s*(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NO_MKDOCS_2_WARNING", "1")  # its theme's news of its successor
        patched.setenv("MOLEX_DATA", "/a/folder/of/this/machine")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def text_of(page):
    """Return what a reader sees of a page."""
    whole = page.read_text(encoding="utf-8")
    article = whole[whole.index("<article") : whole.index("</article>")]
    return html.unescape(re.sub(r"<[^>]+>", "", article))


def test_pages_load_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    loads = [found[0] for page in pages for found in LOADED.finditer(page.read_text(encoding="utf-8"))]
    assert len(loads) > 100
    assert [each for each in loads if ELSEWHERE.search(each) and 'rel="canonical"' not in each] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"""(?:@import|url\()\s*["']?(?:https?:)?//""", styles)


def test_pictures_load_nothing_from_elsewhere():
    pictures = sorted((ROOT / "docs").rglob("*.svg"))
    assert pictures
    for each in pictures:
        assert not re.search(r"""(?:href=["']|url\(["']?)(?:https?:)?//""", each.read_text(encoding="utf-8")), each.name


def test_every_argument_of_every_command_is_in_the_reference(site):
    shown = text_of(site / "commands.html")
    for name in commands():
        assert f"molex {name}" in shown
        parser = parser_of(name)
        own = [each for some in reference.sections(parser.own) for each in some.settings] if parser.own else []
        flags = [flag for each in parser.actions() if each.help != "==SUPPRESS==" for flag in each.option_strings]
        assert [each for each in [*flags, *(each.key for each in own), *parser.examples] if each not in shown] == []


def test_every_setting_is_in_the_reference_with_its_sentence(site):
    shown = text_of(site / "settings.html")
    experiment = overrides.checked(command_line.CommandLine(overrides=[]))
    methods = [some for each in METHODS.values() for some in reference.sections(each, "method")]
    found = [each for some in [*reference.sections(experiment), *methods] for each in some.settings]
    assert len(found) > 100
    assert [each.key for each in found if f"{each.key}\n" not in shown] == []
    sentences = {re.sub("`", "", each.sentence) for each in found}
    assert [each for each in sentences if each not in shown] == []


def test_the_reference_names_no_folder_of_the_machine(site):
    assert "/a/folder" not in text_of(site / "settings.html")
    assert str(Path.home()) not in text_of(site / "settings.html")
    assert str(ROOT) not in "".join(page.read_text(encoding="utf-8") for page in site.rglob("*.html"))


def test_pages_beside_docs_are_in_the_site_with_their_links(site):
    shown = (site / "contributing.html").read_text(encoding="utf-8")
    assert "From the command line to a setting" in shown
    assert 'href="docs/' not in shown
    assert "record.json" in text_of(site / "outputs.html")


def test_links_between_pages_read_as_their_titles(site):
    shown = {page.name: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert 'href="adding.html#a-task">Adding a method, task, model</a>' in shown["troubleshooting.html"]
    assert [name for name, text in shown.items() if re.search(r">[\w/.]+\.md</a>", text)] == []


def test_a_setting_without_a_default_shows_no_placeholder(site):
    shown = text_of(site / "commands.html")
    assert "lm_eval" in shown
    assert "[NAME,...]" not in shown


@pytest.mark.browser
def test_error_lines_are_read_without_scrolling_on_a_phone(site):
    scrolls = "[...document.querySelectorAll('pre > code')].filter(each => each.scrollWidth > each.clientWidth).length"
    with tab() as one:
        one.open(site / "troubleshooting.html", width=390)
        assert one.value("document.querySelectorAll('pre > code').length") > 30
        assert one.value(scrolls) == 0


SEARCH = """(async () => {
  const box = document.querySelector("[data-md-component=search-query]");
  box.focus();
  box.value = "bitfit";
  box.dispatchEvent(new KeyboardEvent("keyup", { bubbles: true }));
  for (let i = 0; i < 300 && !document.querySelector(".md-search-result__item"); i++)
    await new Promise(done => setTimeout(done, 100));
  return [...document.querySelectorAll(".md-search-result__item")].map(each => each.innerText);
})()"""


@pytest.mark.browser
def test_pages_that_are_opened_from_a_folder_can_be_searched(site):
    with tab() as one:
        one.open(site / "methods.html")
        found = one.value(SEARCH)
        assert any("BitFit" in each for each in found)
        assert one.value("errors") == []
        assert one.console == []
