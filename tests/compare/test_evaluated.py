"""Which evaluation of a run stands for it where another split is compared."""

import json
import os
from pathlib import Path

import pytest
from support.made_records import leave

from molex_cli.compare.evaluated import on_split
from molex_cli.compare.loading import load
from molex_cli.errors import ConfigError

SCORED = {"labels": ["no", "yes"], "positive": None, "answer_mode": "head", "batch_size": 64}
LENGTH = {"settings": {"train": {"epochs": 1.0, "max_length": 64}}}


def evaluated(folder, name="a", **changed):
    """Leave what `molex eval` writes of a run."""
    about = {
        "task": "rte", "where": {}, "split": "test", "adapter": "adapter-last.safetensors", "step": 9,
        "perturbation": None, "mapping": {}, "max_length": 64, "scores": {"accuracy": 0.5}, "degenerate": [],
        "rows": 2, "rows_used": 2, "fingerprint": "f", "evaluation": SCORED, **changed,
    }  # fmt: skip
    file = folder / "evaluations" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(about))
    rows = [{"id": "0", "label": "yes", "prediction": "yes"}, {"id": "1", "label": "no", "prediction": "yes"}]
    file.with_name(f"{name}-predictions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def compared(*names, **changed):
    """Return the runs of two methods as they are compared on test, the first with evaluations of these."""
    for method in ("lora", "mola"):
        leave(Path(f"outputs/{method}"), method, 0, 0.5, evaluation=SCORED, **LENGTH)
    evaluated(Path("outputs/mola"))
    evaluated(Path("outputs/lora"), **changed)
    return on_split(load([Path("outputs")]), "last", "test")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"step": 4}, "step: 4 instead of 9"),
        ({"max_length": 32}, "max_length: 32 instead of 64"),
        ({"evaluation": {**SCORED, "answer_mode": "label words"}}, "answer_mode: label words instead of head"),
        ({"evaluation": {**SCORED, "depends_on_batch": "why", "batch_size": 1}}, "batch_size: 1 instead of 64"),
        ({"scores": {"matthews": 0.5}}, "no accuracy"),
    ],
)
def test_a_run_that_was_scored_otherwise_than_it_was_trained_is_left_out_and_told(changed, told):
    found = compared(**changed)
    assert [run.folder.name for run in found.runs] == ["mola"]
    (line,) = found.left_out
    assert line.startswith("outputs/lora has no evaluation of its last adapter on test as it was scored itself (")
    assert told in line
    assert line.endswith("molex eval outputs/lora split=test which=last makes one")


def test_of_two_evaluations_of_as_many_rows_the_later_counts():
    found = compared(scores={"accuracy": 1.0})
    assert found.runs[0].score("last") == 1.0
    newer = evaluated(Path("outputs/lora"), "b", scores={"accuracy": 0.25})
    os.utime(newer, (newer.stat().st_mtime + 9, newer.stat().st_mtime + 9))
    assert on_split(load([Path("outputs")]), "last", "test").runs[0].score("last") == 0.25


def test_a_run_that_failed_a_check_is_degenerate_on_every_split():
    reasons = ["all predictions are the same", "f1 is undefined", "3 trainable tensors got no gradient: a, b, c"]
    leave(Path("outputs/lora"), "lora", 0, 0.5, degenerate=reasons)
    evaluated(Path("outputs/lora"), degenerate=["matthews is undefined"])
    (run,) = on_split(load([Path("outputs")]), "last", "test").runs
    assert run.record.degenerate == ["matthews is undefined", reasons[2]]


def test_where_no_run_was_scored_the_command_that_does_it_is_told():
    leave(Path("outputs/lora"), "lora", 0, 0.5)
    with pytest.raises(ConfigError, match="molex eval outputs split=test which=last"):
        on_split(load([Path("outputs")]), "last", "test")
