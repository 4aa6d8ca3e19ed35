"""What is written under a temporary name stays while its process lives, and goes when that was killed."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from molex_cli import records
from molex_cli.checkpoints.folders import new_folder
from molex_cli.checkpoints.saved_run import subfolder
from molex_cli.records import Record, locks, write_record
from molex_cli.records.locks import Resume, State
from molex_cli.records.partial import folder_renamed_when_whole, remove_stale, renamed_when_whole


def begin(write, path, told):
    with write(path):
        told.set()
        signal.pause()


def writing(write, path):
    """Return a process that is in the middle of writing a file or a folder."""
    context = multiprocessing.get_context("forkserver")
    told = context.Event()
    process = context.Process(target=begin, args=(write, path, told))
    process.start()
    assert told.wait(60)
    return process


def kill(process):
    process.kill()
    process.join()


@pytest.mark.parametrize("write", [renamed_when_whole, folder_renamed_when_whole])
def test_only_what_a_dead_process_left_is_stale(tmp_path, write):
    process = writing(write, tmp_path / "made")
    (temporary,) = tmp_path.iterdir()
    remove_stale(tmp_path)
    assert temporary.exists()  # it is alive
    kill(process)
    assert temporary.exists()
    remove_stale(tmp_path, "other")
    assert temporary.exists()
    remove_stale(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_next_folder_of_a_name_removes_what_is_left_of_the_last(tmp_path):
    (tmp_path / ".made.original").write_text("a user's")
    kill(writing(folder_renamed_when_whole, tmp_path / "made"))
    with new_folder(tmp_path / "made") as folder:
        (folder / "file").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {".made.original", "made"}


def test_evaluations_and_probes_of_a_killed_process_leave_nothing(tmp_path):
    kill(writing(renamed_when_whole, subfolder(tmp_path, "evaluations") / "a.json"))
    assert not list(subfolder(tmp_path, "evaluations").iterdir())


def test_a_long_name_can_be_written(tmp_path):
    records.write_text(tmp_path / ("ö" * 127), "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["ö" * 127]


@pytest.mark.parametrize("status", ["interrupted", "finished"])
def test_whoever_gets_the_lock_of_a_run_tidies_its_folder(tmp_path, status):
    run = tmp_path / "run"
    run.mkdir()
    write_record(run, Record(name="a", variant="v", seed=0, settings={"keep": "best"}, status=status))
    adapters = ["adapter-last.safetensors", "adapter-best.safetensors"]
    for name in [
        *adapters,
        "progress.safetensors",
        ".record.json.abcdefgh.partial",
        ".adapter-last.safetensors.a_b1c2d3",
    ]:
        (run / name).touch()
    lock = locks.acquire(str(tmp_path), "run", Resume.missing)
    assert lock.state.name == ("ours" if status == "interrupted" else "finished")
    lock.release()
    kept = {"adapter-best.safetensors"} if status == "finished" else {*adapters, "progress.safetensors"}
    assert {path.name for path in run.iterdir()} - {".lock"} == {"record.json", *kept}


def test_a_finished_run_that_another_process_holds_is_not_tidied(tmp_path):
    run = tmp_path / "run"
    first = locks.acquire(str(tmp_path), "run", Resume.missing)
    write_record(run, Record(name="a", variant="v", seed=0, settings={}, status="finished"))
    (run / "progress.safetensors").touch()
    assert locks.ended(str(tmp_path), "run", Resume.missing).state is State.finished
    assert (run / "progress.safetensors").exists()
    first.release()
    locks.ended(str(tmp_path), "run", Resume.missing)
    assert not (run / "progress.safetensors").exists()


def test_the_second_process_of_a_run_says_at_once_whom_it_waits_for(tmp_path, capsys):
    first = locks.acquire(str(tmp_path), "run", Resume.missing)
    assert locks.acquire(str(tmp_path), "run", Resume.missing, wait=0.1).state is State.elsewhere
    assert "run is the work of another process now; waiting 0.1 s for it" in capsys.readouterr().err
    environment = {"pid": os.getpid(), "host": "here"}
    write_record(first.folder, Record(name="a", variant="v", seed=0, settings={}, environment=environment))
    assert locks.acquire(str(tmp_path), "run", Resume.missing, wait=0.1).state is State.elsewhere
    assert f"run is the work of process {os.getpid()} on here now; waiting" in capsys.readouterr().err


def test_asking_whether_a_run_is_worked_on_writes_nothing(tmp_path):
    assert not locks.is_locked(tmp_path)
    assert not list(Path(tmp_path).iterdir())
