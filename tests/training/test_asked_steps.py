"""Fewer steps than were asked for are told."""

import json

import pytest
from support.runs import only_record, sequence

from molex_cli.cli import main

SMALL = ["train", "experiment=smoke", "method=head", "train.max_rows=16", "train.epochs=1"]


@pytest.mark.parametrize(("asked", "is_told"), [("9", True), ("2", False), ("1", False), ("null", False)])
def test_more_steps_than_the_epochs_have_are_told_at_the_start_and_in_the_record(asked, is_told, capsys):
    assert main([*SMALL, f"train.max_steps={asked}"]) == 0
    note = "train.max_steps=9 is beyond the 2 steps of train.epochs=1; train.epochs=5 would reach it"
    shown = capsys.readouterr().out.splitlines()
    assert (f"note: {note}" in shown) is is_told
    record, folder = only_record()
    assert record["training"].get("notes") == ([note] if is_told else None)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["message"] == note for event in events if event["event"] == "noted"].count(True) == is_told


def test_each_stage_tells_it_by_its_name(capsys):
    assert main([*sequence("one", "two"), "train.epochs=1", "train.max_steps=1000"]) == 0
    shown = capsys.readouterr().out
    for name in ("one", "two"):
        assert f"steps of train.epochs=1 on {name}; train.epochs=" in shown
