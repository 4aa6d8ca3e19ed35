"""A disk that is full: one line and exit code 2, and the run resumes when there is room."""

import errno
import json
import os
import resource
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors import SafetensorError

from molex_cli.cli import main
from molex_cli.errors import RecordError
from molex_cli.records import disk_errors_told, no_room
from molex_cli.tracking.events import Noted
from molex_cli.tracking.jsonl import Jsonl

TRAIN = ["train", "experiment=smoke", "method=lora", "train.max_steps=6", "checkpoint_every=2", "hardware.threads=1"]


@contextmanager
def files_of_at_most(size):
    """Let no file grow beyond a size, which the system refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [100_000, 2_000])  # room for the record, or not even for that
def test_a_run_without_room_ends_in_one_line_and_resumes(size, capsys):
    with files_of_at_most(size):
        assert main(TRAIN) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert len([line for line in (out + err).splitlines() if "must have room for what is written, got: " in line]) == 1
    assert main(TRAIN) == 0
    (path,) = Path("outputs").glob("*/record.json")
    assert json.loads(path.read_text())["status"] == "finished"


def test_a_command_without_room_ends_in_one_line(capsys, monkeypatch):
    assert main([*TRAIN, "train.max_steps=1"]) == 0
    (run,) = Path("outputs").glob("builtin*")
    capsys.readouterr()
    for arguments in (["merge", str(run), "--output=merged"], ["eval", f"run={run}"]):
        with files_of_at_most(10):
            assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "must have room for what is written, got: " in line
    assert not Path("merged").exists()


def test_only_a_lack_of_room_is_told_so():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.json")
    assert str(no_room(full)).startswith("x.json must have room for what is written, got: No space left on device;")
    assert isinstance(no_room(SafetensorError("I/O error: No space left on device (os error 28)")), RecordError)
    assert no_room(OSError(errno.EACCES, "no")) is None
    assert no_room(ValueError("No space left on device")) is None
    with pytest.raises(ValueError, match="other"), disk_errors_told():
        raise ValueError("other")


def test_events_that_found_no_room_are_written_when_there_is_some():
    sink = Jsonl(Path("events.jsonl"))
    with files_of_at_most(50):
        for number in range(5):
            sink.write(Noted(message=f"note {number}"))
    sink.write(Noted(message="note 5"))
    sink.close()
    messages = [json.loads(line)["message"] for line in Path("events.jsonl").read_text().splitlines()]
    assert messages == [f"note {number}" for number in range(6)]


@pytest.mark.parametrize("arguments", ["--version", "--help", "list tasks", "list --help"])
def test_an_output_without_room_ends_in_one_line(arguments, capsys, monkeypatch):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(arguments.split()) == 2
        monkeypatch.undo()
    (line,) = capsys.readouterr().err.splitlines()
    assert "must have room for what is written, got: " in line
