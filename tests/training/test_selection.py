"""The best evaluation is chosen on rows that were set apart, and validation chooses nothing."""

import json
from pathlib import Path

import pytest
from support.runs import interrupted, only_record, outcome

from molex_cli.cli import main
from molex_cli.config.command_line import CommandLine
from molex_cli.config.overrides import checked
from molex_cli.errors import ConfigError
from molex_cli.run import run
from molex_cli.tracking.events import Evaluated
from molex_cli.training.evaluation import Scoring

SETTINGS = ("train.selection=0.25", "train.max_steps=6", "train.evaluate_every=2", "train.learning_rate=0.02")


def evaluations(folder):
    events = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    return [event for event in events if event["event"] == "evaluated"]


def test_the_best_is_chosen_on_the_rows_set_apart(experiment):
    run(experiment(*SETTINGS))
    record, folder = only_record()
    found = evaluations(folder)
    chosen = {e["step"]: e["scores"]["accuracy"] for e in found if e["split"] == "selection"}
    reported = {e["step"]: e["scores"]["accuracy"] for e in found if e["split"] == "validation"}
    assert list(chosen) == [2, 4, 6]
    best = max(chosen, key=lambda step: (chosen[step], -step))
    scores = record["scores"]
    assert scores["best"]["step"] == best
    assert scores["best"]["selection"]["accuracy"] == chosen[best]
    assert scores["best"]["scores"]["accuracy"] == reported[best]
    assert scores["last"]["scores"]["accuracy"] == reported[6]
    assert scores["selection"] == (
        "the best is the highest accuracy on 16 training rows that were set apart for it; the first of equals"
    )
    assert scores["evaluations"] == 3
    assert record["data"]["selection"]["rows_used"] == 16
    assert record["data"]["train"]["rows_used"] == 48


def test_validation_is_scored_for_the_last_and_for_what_was_the_best_alone(experiment):
    run(experiment(*SETTINGS))
    _, folder = only_record()
    best = {e["step"] for e in evaluations(folder) if e["best"]}
    assert {e["step"] for e in evaluations(folder) if e["split"] == "validation"} == best | {6}


@pytest.mark.parametrize(("at", "kind"), [(3, None), (2, Evaluated), (4, Evaluated), (6, Evaluated)])
def test_an_interrupted_run_resumes_to_the_same_choice(experiment, monkeypatch, tmp_path, at, kind):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    settings = ("train.batch_size=8", *SETTINGS, "checkpoint_every=1")
    monkeypatch.chdir(whole)
    run(experiment(*settings))
    monkeypatch.chdir(halves)
    interrupted(experiment, *settings, at=at, **({"kind": kind} if kind else {}))
    run(experiment(*settings))
    assert outcome(halves) == outcome(whole)


def test_stages_and_odd_sizes_are_refused():
    for setting, words in (
        ("train.selection=-0.1", "train.selection must be a share of the training rows below 1, or their number"),
        (
            "train.selection=0 train.selection_seed=3",
            "train.selection_seed must go with train.selection, got 3 without",
        ),
        ("train.selection=1.5", "train.selection must be a share of the training rows below 1, or their number"),
        ("task=continual/science_qa", "train.selection must be 0 with stages"),
    ):
        with pytest.raises(ConfigError, match=words):
            checked(CommandLine(overrides=["train.selection=0.1", *setting.split()]))


def test_runs_with_and_without_a_selection_still_compare(capsys):
    assert main(["train", "experiment=smoke", "train.max_steps=2", "log.wandb=disabled"]) == 0
    assert main(["train", "experiment=smoke", "train.max_steps=2", "log.wandb=disabled", "train.selection=16"]) == 0
    capsys.readouterr()
    assert main(["compare", "outputs", "--which", "best"]) == 0
    shown = capsys.readouterr().out
    assert "on training rows that were set apart for it" in shown
    assert "on validation, the split that is reported" in shown
    assert main(["compare", "outputs", "--html", "page.html"]) == 0
    assert "; on the selection rows" in Path("page.html").read_text()


class StopAtSelection:
    """A sink that stands for a crash between the two events of a step that is the second best so far."""

    def __init__(self):
        self.best = 0

    def write(self, event):
        if isinstance(event, Evaluated) and event.split == "selection":
            self.best += event.best
            if self.best == 2:
                raise KeyboardInterrupt

    def close(self):
        """Do nothing."""


def test_a_run_that_stopped_between_the_two_events_of_a_later_best_resumes(experiment, monkeypatch, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    monkeypatch.setattr(Scoring, "_is_best", lambda self, _: self.best is None or self.best.step < 4)
    monkeypatch.chdir(whole)
    run(experiment(*SETTINGS))
    _, folder = only_record()
    assert sum(e["best"] for e in evaluations(folder) if e["split"] == "selection") > 1
    monkeypatch.chdir(halves)
    with pytest.raises(KeyboardInterrupt):
        run(experiment(*SETTINGS), extra_sinks=(StopAtSelection(),))
    run(experiment(*SETTINGS))
    assert outcome(halves) == outcome(whole)


def test_a_step_has_its_routing_once_and_the_alarm_stays_silent_about_what_it_told(experiment):
    run(experiment(*SETTINGS, "method=mola_inverted", "collapse.below=1.0"))
    _, folder = only_record()
    found = evaluations(folder)
    assert all(bool(e["routing"]) is (e["split"] == "selection") for e in found)
    told = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert len([e for e in told if e.get("message", "").startswith("routers collapsed")]) == 1
