"""A disk that is full: one line and exit code 2, and the run resumes when there is room."""

import errno
import json
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors import SafetensorError
from support.full_disk import files_of_at_most

from molex_cli.cli import main
from molex_cli.errors import ConfigError, RecordError
from molex_cli.launching import sweeper
from molex_cli.records import disk_error, disk_errors_told, no_room
from molex_cli.tracking.events import Noted
from molex_cli.tracking.jsonl import Jsonl

TRAIN = ["train", "experiment=smoke", "method=lora", "train.max_steps=6", "checkpoint_every=2", "hardware.threads=1"]


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


@contextmanager
def nothing_renamed():
    """Let no file get its name, as where a disk has no room for anything."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "replace", full)
        yield


@pytest.mark.parametrize("limit", [nothing_renamed, lambda: files_of_at_most(100_000)], ids=["nothing", "no adapter"])
def test_a_sweep_outlives_a_full_disk_and_the_same_command_resumes_it(limit, capfd, monkeypatch):
    launch = sweeper._launch

    def limited(*arguments):
        with limit():
            launch(*arguments)

    sweep = ["train", "-m", *TRAIN[1:], "train.max_steps=2", "log.wandb=disabled", "seed=0,1", "isolate=false"]
    with monkeypatch.context() as patched:
        patched.setattr(sweeper, "_launch", limited)
        assert main(sweep) == 1
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert len(re.findall(r"^\[\d/2\] interrupted  seed=.* must have room for", out, re.MULTILINE)) == 2
    assert len(re.findall(r"^seed=\d +interrupted", out, re.MULTILINE)) == 2  # the table
    assert "interrupted; the same command resumes with what is missing" in out
    assert main(sweep) == 0
    found = [json.loads(path.read_text()) for path in Path("outputs").glob("*/record.json")]
    assert [record["status"] for record in found] == ["finished", "finished"]
    assert not [path for path in Path("outputs").rglob(".*") if path.name != ".lock"]


def test_a_sweep_that_finds_no_room_to_begin_leaves_no_folder(capsys):
    with files_of_at_most(120):
        assert main(["train", "-m", *TRAIN[1:], "seed=0,1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "must have room for what is written, got: " in line
    assert not list(Path("outputs/sweeps").iterdir())


@pytest.mark.parametrize(("number", "rule"), [(errno.EROFS, "let this user read and write it"), (errno.EIO, "works")])
def test_every_command_says_in_one_line_what_the_disk_refuses(number, rule, capsys, monkeypatch):
    assert main([*TRAIN, "train.max_steps=1"]) == 0
    (run,) = Path("outputs").glob("builtin*")
    before = {path: path.read_bytes() for path in run.iterdir()}
    capsys.readouterr()

    def refused(*_, **__):
        raise OSError(number, os.strerror(number), "a/place")

    commands = [["merge", str(run), "--output=x"], ["eval", f"run={run}"], ["probe", f"run={run}", "train.max_rows=16"]]
    commands += [["export", str(run), "--output=x"], ["compare", str(run), "--output=x"], [*TRAIN, "seed=1"]]
    for command in commands:
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", refused)
            assert main(command) == 2
        out, err = capsys.readouterr()
        (line,) = [line for line in (out + err).splitlines() if os.strerror(number) in line]
        assert "Traceback" not in out + err
        assert rule in line or "must be" in line
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_an_error_of_the_disk_is_told_behind_another_package_s():
    error = RuntimeError("cannot build the data set")
    error.__cause__ = OSError(errno.EDQUOT, "", "cache/file")
    assert "cache/file must have room for what is written" in str(disk_error(error))
    assert disk_error(PermissionError(errno.EPERM, "no such process of yours")) is None
    with pytest.raises(ConfigError), disk_errors_told():
        raise ConfigError("a folder must be one") from OSError(errno.EACCES, "", "x")


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
