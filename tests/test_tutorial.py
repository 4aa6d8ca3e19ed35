"""The commands of the tutorial, run in their order on a tiny model: from a csv to a table and a figure."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/tutorial"
FENCED = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
FEWER = {
    "model=minilm": "model=tiny_bert",
    "train.epochs=4": "train.max_steps=3",
    "[1e-3, 2e-3]": "[1e-3]",
    "first: 3, most: 6": "first: 3, most: 3",
}


def commands() -> list[list[str]]:
    """Return the page's commands."""
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    lines = "".join(FENCED.findall(text)).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def run(words: list[str]) -> None:
    """Run a command as it is printed, `molex` as a module of this Python."""
    program = {"molex": [sys.executable, "-m", "molex_cli"], "python": [sys.executable]}.get(words[0], words[:1])
    made = subprocess.run([*program, *words[1:]], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert made.returncode == 0, f"{' '.join(words)}\n{made.stdout[-2000:]}\n{made.stderr[-2000:]}"


def test_the_tutorial_goes_from_a_csv_to_a_table_and_a_figure(tmp_path, monkeypatch):
    printed = commands()
    assert len(printed) <= 8
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    shutil.copytree(FOLDER, "docs/tutorial")
    study = Path("docs/tutorial/study.yaml")
    text = study.read_text(encoding="utf-8")
    for theirs, ours in FEWER.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    study.write_text(text, encoding="utf-8")
    for words in printed:
        if words[0] == "pdflatex" and shutil.which("pdflatex") is None:
            pytest.skip("all but the last command: pdflatex is not installed")
        run(words)
    assert Path("outputs/studies/study/study.html").is_file()
    assert Path("scores.pdf").read_bytes().startswith(b"%PDF")
    log = Path("article.log").read_text(encoding="utf-8", errors="replace")
    assert "Overfull \\hbox" not in log
    assert Path("article.pdf").is_file()
