"""`make new-method`: the generated files work at once and keep the promises of every method."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def new_method(name: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "templates/new_method.py"), name, str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def in_copy(root: Path, *arguments: str) -> str:
    """Return what Python prints with the copy, and not the installed package, on its path."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env={**_environment(), "PYTHONPATH": str(root)}, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def test_a_new_method_plans_and_keeps_the_promises_of_every_method(tmp_path):
    for folder in ("molex_cli", "conf", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert new_method("my_norms", tmp_path).returncode == 0
    assert "trainable" in in_copy(tmp_path, "-m", "molex_cli", "plan", "method=my_norms", "model=tiny_bert")
    conformance, own = "tests/methods/test_methods.py", "tests/methods/test_my_norms.py"
    said = in_copy(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", conformance, own, "-k", "my_norms or registered")
    assert " passed" in said


@pytest.mark.parametrize("name", ["", "Größe", "größe", "1st", "my-method", "class", "../x"])
def test_an_invalid_name_is_refused_in_one_line(tmp_path, name):
    done = new_method(name, tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"NAME must be a lower-case Python name, got {name!r}; write NAME=my_method\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["lora", "molex", "base"])
def test_a_name_that_is_taken_is_refused_in_one_line(name):
    done = new_method(name, ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith(f"NAME must be new, got {name}, for which there is ")
    assert done.stderr.count("\n") == 1
