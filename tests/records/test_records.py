"""Which folder a run gets, and the index over all of them."""

import dataclasses
import json
import multiprocessing
from pathlib import Path

import pytest

from molex_cli import records
from molex_cli.errors import RecordError
from molex_cli.records import index, locks
from molex_cli.records.locks import Resume, State


def record(status="finished", **changed):
    return records.Record(
        **{"name": "a", "variant": "v", "seed": 0, "settings": {}, "status": status, "routing": {"0": {}}} | changed
    )


def left(folder, status):
    folder.mkdir(parents=True)
    records.write_record(folder, record(status))


@pytest.mark.parametrize(
    ("status", "resume", "expected"),
    [
        ("finished", "missing", "finished"),
        ("finished", "failed", "finished"),
        ("failed", "missing", "failed"),
        ("failed", "failed", "ours"),
        ("interrupted", "missing", "ours"),
        ("running", "missing", "ours"),  # it says so, but nobody holds the lock
    ],
)
def test_what_becomes_of_a_run_that_is_there(tmp_path, status, resume, expected):
    left(tmp_path / "run", status)
    claim = locks.acquire(str(tmp_path), "run", Resume[resume])
    assert (claim.state, claim.folder) == (State[expected], tmp_path / "run")
    claim.release()


def test_starting_over_takes_a_folder_beside_and_the_latest_one_counts(tmp_path):
    left(tmp_path / "run", "finished")
    claim = locks.acquire(str(tmp_path), "run", Resume.never)
    assert claim.folder == tmp_path / "run.2"
    records.write_record(claim.folder, record("interrupted"))
    claim.release()
    assert locks.acquire(str(tmp_path), "run", Resume.missing).folder == tmp_path / "run.2"


def test_a_run_at_work_elsewhere_is_left_alone(tmp_path):
    first = locks.acquire(str(tmp_path), "run", Resume.missing)
    assert locks.acquire(str(tmp_path), "run", Resume.missing, wait=0.1).state is State.elsewhere
    first.release()
    assert locks.acquire(str(tmp_path), "run", Resume.missing, wait=0.1).state is State.ours


def test_a_broken_record_is_not_written_over(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/record.json").write_text("{")
    with pytest.raises(RecordError, match=r"record\.json (must be|is not)"):
        locks.acquire(str(tmp_path), "run", Resume.missing)
    assert (tmp_path / "run/record.json").read_text() == "{"


def start(output_dir, resume, box):
    claim = locks.acquire(output_dir, "task/with slash", Resume[resume], wait=0.0)
    box.put((claim.state.name, claim.folder.name))
    if claim.state is State.ours:
        multiprocessing.Event().wait(0.5)  # hold it while the others try


@pytest.mark.parametrize("resume", ["missing", "never"])
def test_fifty_starts_at_once_never_share_a_folder(tmp_path, resume):
    context = multiprocessing.get_context("forkserver")
    box = context.Manager().Queue()
    all_starts = [context.Process(target=start, args=(str(tmp_path), resume, box)) for _ in range(50)]
    for each in all_starts:
        each.start()
    for each in all_starts:
        each.join()
    told = [box.get() for _ in all_starts]
    ours = [folder for state, folder in told if state == "ours"]
    assert len(set(ours)) == (50 if resume == "never" else 1)
    if resume == "missing":
        assert {folder for _, folder in told} == {"task-with-slash"}


def test_the_index_says_what_the_records_say(tmp_path):
    for number in range(3):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        records.write_record(folder, record(seed=number))
        if number < 2:
            index.add(folder, record(seed=number))
    stale = record("failed", seed=1, error={"type": "E", "message": "m", "traceback": "long"})
    records.write_record(tmp_path / "run1", stale)
    found, problems = index.read(tmp_path)
    assert not problems
    assert {path.name: (each.seed, each.status) for path, each in found.items()} == {
        "run0": (0, "finished"), "run1": (1, "failed"), "run2": (2, "finished"),
    }  # fmt: skip
    assert found[tmp_path / "run0"] == dataclasses.replace(record(seed=0), routing={})
    lines = [json.loads(line) for line in (tmp_path / index.NAME).read_text().splitlines()]
    assert all("routing" not in line["record"] for line in lines)


def test_the_index_keeps_attempts_and_a_line_of_before_without_them_hides_none(tmp_path):
    tried = record(attempts=[{"started": "2020-01-01T00:00:00+00:00", "status": "interrupted"}])
    for name in ("now", "before"):
        (tmp_path / name).mkdir()
        records.write_record(tmp_path / name, tried)
        index.add(tmp_path / name, tried)
    now, before = map(json.loads, (tmp_path / index.NAME).read_text().splitlines())
    assert now["record"]["attempts"] == tried.attempts
    del before["record"]["attempts"]
    (tmp_path / index.NAME).write_text(json.dumps(before) + "\n")
    found, _ = index.read(tmp_path)
    assert [each.attempts for each in found.values()] == [tried.attempts] * 2


def test_a_broken_line_or_record_costs_only_itself(tmp_path):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        records.write_record(tmp_path / name, record())
        index.add(tmp_path / name, record())
    with (tmp_path / index.NAME).open("a") as file:
        file.write('{"folder": "good", "chan\n')
    (tmp_path / "bad/record.json").write_text("{")
    found, problems = index.read(tmp_path)
    assert [path.name for path in found] == ["good"]
    assert len(problems) == 1
    assert "bad/record.json" in problems[tmp_path / "bad"]


def test_every_run_is_in_the_index(experiment):
    from molex_cli.run import run

    made = run(experiment())
    found, _ = index.read(Path("outputs"))
    (only,) = found.values()
    assert (only.status, only.scores, only.routing) == ("finished", made.scores, {})


def test_a_long_name_is_cut_before_variant_and_seed_and_a_short_one_stays():
    def name(task):
        return f"{task}-lora-tiny_bert-0123456789ab-s0"

    for task in ("t" * 300, "ö" * 230):
        folder = locks.acquire("outputs", name(task), Resume.missing).folder
        assert len(folder.name) <= 240
        assert folder.name.endswith("-0123456789ab-s0")
    assert locks.acquire("outputs", name("short"), Resume.missing).folder.name == name("short")


def test_a_part_of_a_file_name_is_short_in_bytes_and_without_slashes():
    assert records.file_part("glue/rte") == "glue-rte"
    assert len(records.file_part("ö" * 230).encode()) == 150


def test_a_folder_in_which_no_run_began_goes_with_its_lock(tmp_path):
    claim = locks.acquire(str(tmp_path), "run", Resume.missing, {"rows": "A"})
    (claim.folder / locks.CONSOLE).write_text("the rows are bad")
    claim.release()
    assert not claim.folder.exists()
    again = locks.acquire_again(claim.folder)
    records.write_record(again.folder, record("failed"))
    again.release()
    assert again.folder.exists()


def test_a_try_is_found_behind_one_whose_folder_is_gone(tmp_path):
    left(tmp_path / "run.3", "finished")
    left(tmp_path / "run.x", "finished")  # another name
    assert locks.tries(str(tmp_path), "run") == [tmp_path / "run.3"]
    assert locks.acquire(str(tmp_path), "run", Resume.missing).folder == tmp_path / "run.3"
    other = locks.acquire(str(tmp_path), "run", Resume.never)
    assert other.folder == tmp_path / "run"  # a number that is free
    records.write_record(other.folder, record("finished", data={"train": {"fingerprint": "A"}}))
    other.release()
    (tmp_path / "run.3/record.json").unlink()
    records.write_record(tmp_path / "run.3", record("finished", data={"train": {"fingerprint": "B"}}))
    third = locks.acquire(str(tmp_path), "run", Resume.missing, {"rows of train": "C"})
    assert third.folder == tmp_path / "run.4"
    third.release()
