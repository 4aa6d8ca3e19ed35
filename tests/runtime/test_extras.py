"""How to install what is missing: one function says it, as the installation at hand came."""

import importlib.metadata
import itertools
import json
import re
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from house import PACKAGE

from molex_cli.records.versions import environment
from molex_cli.runtime import extras

ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def installed(monkeypatch, written):
    """Let molex be in a folder of packages, installed from what pip wrote of it; None is not installed at all."""

    def distribution(name):
        if written is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return SimpleNamespace(read_text=lambda file: written)

    monkeypatch.setattr(extras, "SOURCE", Path("site-packages").absolute())
    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


def test_from_a_checkout_the_hint_runs_in_any_folder(monkeypatch):
    assert extras.SOURCE == ROOT
    assert shlex.split(extras.install("peft")) == ["pip", "install", "-e", f"{ROOT}[peft]"]
    monkeypatch.chdir(ROOT)
    assert extras.install("peft") == "pip install -e '.[peft]'"


@pytest.mark.parametrize("written", [None, "", "{}", "no JSON", '{"url": "https://example.org/molex-cli.whl"}'])
def test_from_an_index_the_hint_names_our_distribution_and_not_that_of_others(monkeypatch, written):
    installed(monkeypatch, written)
    assert extras.install("nlg") == "pip install 'molex-cli[nlg]'"


def test_from_a_folder_that_is_still_there_the_hint_is_that_folder(monkeypatch, tmp_path):
    folder = tmp_path / "my checkout"
    folder.mkdir()
    installed(monkeypatch, json.dumps({"url": folder.as_uri()}))
    assert extras.install("nlg") == "pip install 'molex-cli[nlg]'"
    (folder / "pyproject.toml").touch()
    assert shlex.split(extras.install("nlg")) == ["pip", "install", f"{folder}[nlg]"]


def test_the_distribution_is_ours_and_its_extras_name_it():
    assert PROJECT["name"] == extras.DISTRIBUTION
    assert PROJECT["scripts"] == {"molex": "molex_cli.cli:main"}
    assert not [each for each in itertools.chain(*EXTRAS.values()) if re.match(r"molex\b(?!-cli)", each)]


def test_every_hint_is_of_an_extra_that_there_is():
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    named = [name for text in sources.values() for name in re.findall(r"\binstall\([\"']([\w-]+)[\"']\)", text)]
    assert {"peft", "nlg", "analysis", "dashboard", "quantized", "lm-eval"} <= set(named) <= set(EXTRAS)
    own = [path.name for path, text in sources.items() if re.search(r"pip install\b.*\[", text)]
    assert own == ["extras.py"]


def test_no_page_names_the_distribution_of_others():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        assert not re.findall(r"(?:pip install [^\n]*|')\bmolex\[", path.read_text()), path
        assert set(re.findall(r"'\.\[([\w-]+)\]'", path.read_text())) <= set(EXTRAS), path


def test_a_record_names_our_version_as_records_of_before_do():
    assert environment()["packages"]["molex"] == PROJECT["version"]
