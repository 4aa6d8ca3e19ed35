"""Runs scored by a metric that is none of molex's own are compared by what their records say of it."""

import math
from pathlib import Path

import pytest
from support.made_records import leave, table_of

from molex_cli.compare.collapse import has_collapsed
from molex_cli.compare.confounds import confounds
from molex_cli.compare.loading import load
from molex_cli.errors import ConfigError
from molex_cli.metrics.base import Metric


def about(digest="a" * 16, **changed):
    own = {"source": "cost.py", "digest": digest}
    plain = Metric(name="cost", function=len, kinds=(), higher_is_better=False, high=5.0, **own)
    return {"metrics": {"cost": {**plain.as_data(), **changed}}}


def test_runs_scored_by_two_texts_of_a_metric_are_no_seeds_of_one_arm_and_two_such_arms_are_told_apart():
    for seed, digest in enumerate("aab"):
        leave(Path(f"one/{seed}"), "lora", seed, metric="cost", evaluation=about(digest * 16))
    assert table_of(Path("one")).rows == ["lora (text of cost=aaaaaaaa)", "lora (text of cost=bbbbbbbb)"]
    for method, digest in (("lora", "a"), ("mola", "b")):
        for seed in range(2):
            leave(Path(f"two/{method}-{seed}"), method, seed, metric="cost", evaluation=about(digest * 16))
    told = [note.text for note in confounds(table_of(Path("two")))]
    assert "text of cost differs: aaaaaaaa (LORA); bbbbbbbb (MOLA)" in told


def test_a_column_of_two_directions_has_no_best():
    leave(Path("two/a"), "lora", 0, metric="cost", evaluation=about())
    leave(Path("two/b"), "mola", 0, metric="cost", evaluation=about(higher_is_better=True))
    with pytest.raises(ConfigError, match="a column must have one best, got runs of which a higher and a lower cost"):
        table_of(Path("two"))


def test_an_undefined_score_counts_as_the_worst_where_that_is_known_and_leaves_the_run_out_where_not():
    assert Metric(name="f", function=len, kinds=()).undefined == 0.0
    assert Metric(name="f", function=len, kinds=(), low=-1.0).undefined == 0.0
    assert Metric(name="f", function=len, kinds=(), higher_is_better=False).undefined == 1.0
    assert Metric(name="f", function=len, kinds=(), higher_is_better=False, high=math.inf).undefined == math.inf
    assert Metric(name="f", function=len, kinds=(), low=-math.inf).undefined == -math.inf
    assert Metric(name="f", function=len, kinds=(), higher_is_better=False, when_undefined=3.0).undefined == 3.0
    score = {"step": 9, "epoch": 1.0, "scores": {"cost": None}}
    both = {"metric": "cost", "last": score, "best": score, "selection": ""}
    leave(Path("runs/worst"), "lora", 0, scores=both, evaluation=about())
    leave(Path("runs/unknown"), "mola", 0, scores=both, evaluation=about(high=None))
    loaded = load([Path("runs")], "last")
    assert [run.folder.name for run in loaded.runs] == ["worst"]
    assert table_of(Path("runs")).cells["lora", "rte"].mean == 5.0
    assert "has an undefined cost, which does not say what that counts as (when_undefined)" in loaded.left_out[0]


def test_a_low_score_that_is_better_is_no_collapse_and_the_worst_is():
    for name, value in (("good", 0.0), ("worst", 5.0), ("constant", 0.9)):
        score = {"step": 9, "epoch": 1.0, "scores": {"cost": value}}
        both = {"metric": "cost", "last": score, "best": score, "selection": "", "constant": {"cost": 0.9}}
        leave(Path(f"runs/{name}"), "lora", 0, scores=both, evaluation=about(), variant=name)
    found = {run.folder.name: has_collapsed(run, "last", run.metric()) for run in load([Path("runs")]).runs}
    assert found == {"good": False, "worst": True, "constant": True}
