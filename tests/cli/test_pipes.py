"""A pipe or a device in the place of a file is one line: a reader would wait for it for ever."""

import os
import threading
from pathlib import Path

import pytest
from support.made_records import leave

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
    threading.Thread(target=lambda: open(path, "wb").close(), daemon=True).start()


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
