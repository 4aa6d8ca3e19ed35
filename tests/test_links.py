"""Every link of the documentation leads to a file that is there, and to a heading that it has, as the host names it."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "outputs/README.md", *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|<(?:img|a)\b[^>]*(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)


def links(page):
    """Return where a page's links and pictures lead, those on the web left out."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    found = [first or second for first, second in LINK.findall(text)]
    return [each for each in found if not re.match(r"https?://|mailto:", each)]


@cache
def anchors(page):
    """Return the names of a page's headings on the repository's host."""
    found: dict[str, int] = {}
    names = set()
    for title in HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_links_are_found():
    assert "docs/tasks.md#your-own-rows" in links(ROOT / "README.md")
    assert "pefts-own-tuners" in anchors(ROOT / "docs/exchange.md")
