"""What the documentation names exists; the hooks before a commit are the checks of `make check`."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|yaml))(?::([\w.]+))?`")
PRINTED = re.compile(r"`([\w./-]+)`:?\n\n```")  # an example that the page itself prints need not exist


def defined(path: Path) -> set[str]:
    """Return the functions and classes of a file, those in a class as Class.name."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_functions_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    printed = set(PRINTED.findall(text))
    missing = []
    for name, inside in NAMED.findall(text):
        path = next((root / name for root in (ROOT, ROOT / "molex_cli") if (root / name).is_file()), None)
        if name not in printed and "NAME" not in name and (path is None or (inside and inside not in defined(path))):
            missing.append(f"{name}:{inside}" if inside else name)
    assert not missing


def test_the_tour_names_its_stations():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len({inside for _, inside in NAMED.findall(text) if inside}) >= 20


def test_hooks_before_a_commit_are_the_checks_of_make_check():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ncheck:")[1].split("\n\n")[0]
    wanted = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()[1:]]
    assert [hook["entry"] for hook in hooks] == wanted


def test_ci_runs_what_a_developer_runs():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    runs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert runs == {"check-and-test": [".ci/run"], "slow": ["make test-slow"]}
    assert jobs["check-and-test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
