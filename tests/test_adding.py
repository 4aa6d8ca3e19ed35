"""What docs/adding.md prints works as printed: each section's new files, in a copy of the tree, run by its commands."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from support import forked

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
    "An allocation rule",
    "A metric",
    "A comparison format",
    "An analysis command",
    "An objective",
}


def test_everything_that_can_be_added_has_a_section():
    assert {title.partition(":")[0] for title in SECTIONS} >= WHAT_CAN_BE_ADDED


def test_each_section_works_as_printed_and_edits_no_file(tmp_path):
    prepared = {title: prepare(body, tmp_path / f"section-{i}") for i, (title, body) in enumerate(SECTIONS.items())}
    jobs = [[str(tree), str(folder), arguments] for tree, folder, arguments in prepared.values()]
    subprocess.run([sys.executable, forked.__file__, json.dumps(jobs)], check=True, timeout=300)
    for title, body in SECTIONS.items():
        _, folder, _ = prepared[title]
        for i, (command, expected) in enumerate(commands_of(body)):
            shown, code = folder / f"shown-{i}.txt", folder / f"code-{i}.txt"
            said = shown.read_text(encoding="utf-8")
            complained = (folder / f"complained-{i}.txt").read_text(encoding="utf-8")
            assert code.read_text() == "0", f"{title}: {command}\n{said}{complained}"
            for line in expected:
                assert line in said, f"{title}: {command} must print {line!r}, got\n{said}"


def prepare(body, place):
    """Write a section's files into a copy of the package and a user's folder; return both and the commands."""
    tree, folder = place / "tree", place / "work"
    for name in ("molex_cli", "conf"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    folder.mkdir()
    files = {found["path"]: found["content"] for found in FILE.finditer(body)}
    assert files
    for path, content in files.items():
        written = (folder if path.startswith("mine/") else tree) / path
        assert not written.exists(), f"{path} is there already: nothing existing is edited"
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(content, encoding="utf-8")
    return tree, folder, [shlex.split(command)[1:] for command, _ in commands_of(body)]


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
