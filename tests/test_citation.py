"""CITATION.cff and CHANGELOG.md name the version of pyproject.toml, and the papers that docs/methods.md names."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_has_what_its_format_asks_for():
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert all(CITATION[key] for key in ("title", "message", "authors"))
    assert all(each["type"] and each["title"] and each["authors"] for each in CITATION["references"])


def test_the_citation_is_of_this_version():
    assert (CITATION["version"], CITATION["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"\n## {PROJECT['version']} - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_papers_that_are_cited_are_those_of_the_methods():
    methods = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    cited = [identifier["value"] for each in CITATION["references"] for identifier in each["identifiers"]]
    assert len(cited) == 2
    assert all(each.replace(":", " ") in methods for each in cited)
