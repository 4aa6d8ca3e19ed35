"""How far a run is, read while it is written: half a line, a new file, another kind of file."""

import json
import os

import pytest

from molex_cli.tracking.progress import MOST_BYTES, Follower, duration

STARTED = {"event": "started", "total_steps": 20, "first_step": 0, "positive": "yes"}


def step(number, seconds=2.0, loss=0.5):
    return {"event": "step", "step": number, "loss": loss, "seconds": seconds, "tokens": 9}


def evaluated(number, split="validation", **scores):
    return {"event": "evaluated", "step": number, "split": split, "loss": 0.4, "scores": scores, "seconds": 10.0}


def write(folder, *events, end="\n", mode="a"):
    with (folder / "events.jsonl").open(mode) as file:
        file.write("\n".join(json.dumps(event) for event in events) + end)


def test_step_loss_score_and_time_left_are_those_of_the_events(tmp_path):
    follower = Follower(tmp_path)
    assert follower.look() is None  # there is no file yet
    write(tmp_path, STARTED)
    assert follower.look().words() == ["step 0/20"]
    write(tmp_path, step(1), step(2), evaluated(2, f1=0.75, accuracy=0.5))
    # 18 steps of 2 s, and evaluations that took 10 s for 2 steps
    assert follower.look().words() == ["step 2/20", "loss 0.5000", "f1 of yes 0.7500", "about 2 min left"]
    write(tmp_path, {"event": "finished", "status": "finished", "scores": {"last": {"scores": {"f1": 1.0}}}})
    assert follower.look() is None


def test_half_a_line_is_read_once_it_is_whole(tmp_path):
    follower = Follower(tmp_path)
    write(tmp_path, STARTED)
    line = json.dumps(step(7))
    write(tmp_path, end=line[:20])
    assert follower.look().step == 0
    write(tmp_path, end=line[20:] + "\n")
    assert follower.look().step == 7


def test_lines_that_are_damaged_or_of_others_are_passed_over(tmp_path):
    write(tmp_path, STARTED, step(3))
    write(tmp_path, end='{"event": "step", "step": "many"}\nno json\n[1]\n{"event": "step", "step": -1}\n\n')
    write(tmp_path, {"event": "noted", "message": "x"}, evaluated(3, "selection", f1=0.1), evaluated(3, f1="high"))
    found = Follower(tmp_path).look()
    assert (found.step, found.score) == (3, None)


def test_a_run_that_was_resumed_counts_from_where_it_resumed(tmp_path):
    follower = Follower(tmp_path)
    write(tmp_path, STARTED, step(1), step(2), evaluated(2, f1=0.25), step(3))
    assert follower.look().step == 3
    (tmp_path / "events.jsonl").rename(tmp_path / "old")
    write(tmp_path, STARTED, step(1), step(2), evaluated(2, f1=0.25), STARTED | {"first_step": 2})
    found = follower.look()
    assert (found.step, found.first_step, found.score, found.seconds_left) == (2, 2, 0.25, None)
    write(tmp_path, step(3))
    assert follower.look().seconds_left == pytest.approx(17 * 2.0)


def test_a_look_reads_only_what_was_added(tmp_path, monkeypatch):
    follower = Follower(tmp_path)
    write(tmp_path, STARTED, *map(step, range(1, 15)))
    follower.look()
    read = []
    own = Follower._added
    monkeypatch.setattr(Follower, "_added", lambda self: read.append(own(self)) or read[-1])
    follower.look()
    write(tmp_path, step(15))
    assert follower.look().step == 15
    assert [content.count(b"\n") for content in read] == [0, 1]


def test_a_long_file_is_read_in_several_looks(tmp_path):
    write(tmp_path, STARTED, {"event": "noted", "message": "x" * MOST_BYTES}, step(4))
    follower = Follower(tmp_path)
    assert follower.look().step == 0
    assert follower.look().step == 4


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "events.jsonl")
    assert Follower(tmp_path).look() is None


def test_times_are_told_in_the_unit_that_fits():
    assert [duration(each) for each in (0.4, 99, 100, 5900, 6060)] == ["0 s", "99 s", "2 min", "98 min", "1.7 h"]
