"""The commit in a record is that of this code, or none."""

import shutil
import subprocess
from pathlib import Path

import pytest

from molex_cli.records import versions


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("tracked", [True, False])
def test_a_repository_around_an_installed_package_is_not_its_own(
    tracked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "venv/molex_cli/records/versions.py"
    installed.parent.mkdir(parents=True)
    shutil.copy(versions.__file__, installed)
    (tmp_path / "own.txt").write_text("of a user")
    git("init", "-q")
    git("add", str(installed) if tracked else "own.txt")
    git("commit", "-qm", "first")
    monkeypatch.setattr(versions, "__file__", str(installed))
    assert (versions.environment()["git"] is not None) == tracked
