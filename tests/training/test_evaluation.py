"""Scores during training: which of them is the best."""

import dataclasses
from types import SimpleNamespace

import pytest

from molex_cli.metrics.base import METRICS
from molex_cli.objectives.base import Predictions
from molex_cli.training.evaluation import Scoring


def scoring_of(values, metric):
    coming = iter(values)
    objective = SimpleNamespace(predictions=lambda *_: Predictions([], {metric: next(coming)}, 1.0, ()))
    experiment = SimpleNamespace(
        task=SimpleNamespace(metrics=[metric]), train=SimpleNamespace(eval_batch_size=1, evaluate_at_start=False)
    )
    schedule = SimpleNamespace(evaluates_after=lambda step: True)
    stage = SimpleNamespace(objective=objective, experiment=experiment, encoded={"validation": None}, schedule=schedule)
    return Scoring(SimpleNamespace(take_routing=dict), stage, SimpleNamespace(device="cpu"))


@pytest.mark.parametrize(
    ("accuracies", "best"), [([0.5, 0.9, 0.7], 2), ([0.5, 0.9, 0.9], 2), ([0.9, 0.7, 0.5], 1), ([0.5, 0.7, 0.9], 3)]
)
def test_the_best_is_the_highest_and_the_first_of_equals(accuracies, best):
    scoring = scoring_of(accuracies, "accuracy")
    events = [event for step in range(1, len(accuracies) + 1) for event in scoring.evaluated(step, 1.0)]
    assert max(event.step for event in events if event.best) == best
    assert (scoring.best.step, scoring.last.step) == (best, len(accuracies))
    assert scoring.best.predictions.scores == {"accuracy": max(accuracies)}


def test_where_low_is_better_the_best_is_the_lowest_and_the_record_says_so(monkeypatch):
    low = dataclasses.replace(METRICS["accuracy"], name="error_rate", higher_is_better=False)
    monkeypatch.setitem(METRICS, "error_rate", low)
    scoring = scoring_of([0.5, 0.2, 0.4], "error_rate")
    assert [next(scoring.evaluated(step, 1.0)).best for step in (1, 2, 3)] == [True, True, False]
    summary = scoring.summary({})
    assert summary["best"]["scores"] == {"error_rate": 0.2}
    assert summary["selection"].startswith("the best is the lowest error_rate")
