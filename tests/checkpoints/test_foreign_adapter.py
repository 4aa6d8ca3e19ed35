"""An adapter file of somebody else's: its texts are texts, and it says nothing about where is written."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.runs import working_in

from molex_cli.checkpoints.adapter import ABOUT_DIGEST
from molex_cli.cli import main

KEY = "k3y-of-a-person-0123456789"
HOSTILE = "${oc.env:WANDB_API_KEY}"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return the adapter file of an ordinary run."""
    folder = tmp_path_factory.mktemp("good")
    with working_in(folder):
        assert main(["train", "experiment=smoke", "method=lora", "train.max_steps=1", "hardware.threads=1"]) == 0
    return next(folder.glob("outputs/*/adapter-last.safetensors"))


@pytest.fixture
def foreign(good, tmp_path, monkeypatch):
    """Return a folder with that file, its settings turned against whoever opens it."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    path = tmp_path / "theirs" / good.name
    path.parent.mkdir()
    with safe_open(good, framework="pt") as file:
        about = json.loads(file.metadata()["molex"])
        about.pop(ABOUT_DIGEST)  # who writes for others writes a fitting one, or none
    settings = about["settings"]
    settings["task"]["name"] = settings["model"]["name"] = settings["method"]["display_name"] = HOSTILE
    settings["log"]["entity"] = HOSTILE
    for name in ("cache_dir", "output_dir", "data_dir"):
        settings[name] = str(tmp_path / "elsewhere" / name)
    save_file(load_file(good), path, {"molex": json.dumps(about)})
    return path.parent


COMMANDS = {
    "eval": ["eval", "run=theirs"],
    "probe": ["probe", "run=theirs"],
    "predict": ["predict", "run=theirs", "--file", "rows.jsonl"],
    "export": ["export", "theirs", "--output", "exported"],
    "merge": ["merge", "theirs", "--output", "merged"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_foreign_adapter_learns_nothing_and_writes_nowhere_else(command, foreign, tmp_path, capsys):
    if command == "export":
        pytest.importorskip("peft")
    Path("rows.jsonl").write_text('{"premise": "A cat sleeps.", "hypothesis": "An animal sleeps."}\n')
    assert main(COMMANDS[command]) == 0
    printed = "".join(capsys.readouterr())
    assert KEY not in printed
    if command != "predict":
        assert HOSTILE in printed
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY in str(path) or KEY.encode() in path.read_bytes()]
    assert {path.name for path in tmp_path.iterdir()} <= {"theirs", "cache", "rows.jsonl", "exported", "merged"}


def test_who_opens_a_run_says_where_its_cache_is(foreign, tmp_path):
    assert main(["eval", "run=theirs", "cache_dir=ours"]) == 0
    assert list(Path("ours").rglob("*.npz"))
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "cache").exists()
