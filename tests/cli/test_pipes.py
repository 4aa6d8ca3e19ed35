"""A pipe or a device in the place of a file is one line: a reader would wait for it for ever."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.made_records import leave
from support.runs import interrupted

from molex_cli.cli import main

COMMANDS = {
    "experts": ["experts", "pipe"],
    "diff": ["diff", "pipe", "pipe"],
    "eval": ["eval", "run=pipe"],
    "probe": ["probe", "run=pipe"],
    "predict": ["predict", "run=pipe"],
    "export": ["export", "pipe", "--output", "out"],
    "merge": ["merge", "pipe", "--output", "out"],
    "claims": ["compare", "outputs", "--claims", "pipe"],
    "import": ["import", "folder", "--output", "out", "task=builtin/nli", "model=tiny_bert"],
    "train": ["train", "task=files", "task.columns=[a]", "task.files.train=pipe.csv", "task.files.validation=pipe.csv"],
}


def made_pipe(path):
    """Make a pipe whose reader would not wait: somebody writes nothing into it and leaves."""
    os.mkfifo(path)
    threading.Thread(target=leave_at_once, args=(Path(path).resolve(),), daemon=True).start()


def leave_at_once(path):
    with suppress(OSError):  # the test is over
        path.open("wb").close()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_pipe_is_no_file(capsys, command):
    leave(Path("outputs/run"))
    Path("folder").mkdir()
    for path in ("pipe", "pipe.csv", "folder/adapter_config.json"):
        made_pipe(path)
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 2  # the two splits of a task are two files
    assert all("pipe" in line for line in lines)


def test_a_token_cache_that_is_a_pipe_is_written_anew():
    command = ["train", "experiment=smoke", "train.max_steps=1", "log.wandb=disabled", "cache_dir=cache"]
    assert main(command) == 0
    for path in Path("cache").rglob("*.npz"):
        path.unlink()
        made_pipe(path)
    assert main([*command, "seed=1"]) == 0


def test_a_journal_that_is_a_device_is_one_line(capsys, experiment):
    interrupted(experiment, "checkpoint_every=1", "train.max_steps=4", at=2)
    (path,) = Path("outputs").glob("*/events.jsonl")
    path.unlink()
    path.symlink_to("/dev/full")
    capsys.readouterr()
    assert main(["train", "experiment=smoke", "checkpoint_every=1", "train.max_steps=4"]) == 2
    shown = capsys.readouterr()
    assert "events.jsonl must be a file, got a pipe or a device" in shown.out + shown.err
