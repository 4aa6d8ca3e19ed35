"""What docs/adding.md prints works as printed: each section's new files, in a copy of the tree, run by its commands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"^## (?P<title>.+?)\n(?P<body>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`(?P<path>[\w./-]+)`:\n\n```\w+\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```console\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = {
    found["title"]: found["body"]
    for found in SECTION.finditer((ROOT / "docs" / "adding.md").read_text(encoding="utf-8"))
    if COMMANDS.search(found["body"])
}
WHAT_CAN_BE_ADDED = {
    "A method",
    "A task",
    "A model",
    "An allocation",
    "A metric",
    "A comparison format",
    "An analysis command",
    "An objective",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Return a copy of the package and its settings: what is installed is not written to."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("molex_cli", "conf"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(tree, folder, command):
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    arguments = [sys.executable, "-m", "molex_cli", *shlex.split(command)[1:]]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_everything_that_can_be_added_has_a_section():
    assert {title.partition(":")[0] for title in SECTIONS} >= WHAT_CAN_BE_ADDED


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_works_as_printed_and_edits_no_file(title, tree, tmp_path):
    body = SECTIONS[title]
    files = {found["path"]: found["content"] for found in FILE.finditer(body)}
    assert files
    for path, content in files.items():
        place = tmp_path / path if path.startswith("mine/") else tree / path
        assert not place.exists(), f"{path} is there already: nothing existing is edited"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
    for command, expected in commands_of(body):
        done = run(tree, tmp_path, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        for line in expected:
            assert line in done.stdout, f"{command} must print {line!r}, got\n{done.stdout}"


def commands_of(body):
    """Return each command with the lines that it must print."""
    found = []
    for block in COMMANDS.finditer(body):
        for line in block["lines"].splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip() and line.strip() != "...":
                found[-1][1].append(line.strip())
    return found
