"""Scores during training: which of them is the best."""

from types import SimpleNamespace

import pytest

from molex_cli.objectives.base import Predictions
from molex_cli.training.evaluation import Scoring


@pytest.mark.parametrize(
    ("accuracies", "best"), [([0.5, 0.9, 0.7], 2), ([0.5, 0.9, 0.9], 2), ([0.9, 0.7, 0.5], 1), ([0.5, 0.7, 0.9], 3)]
)
def test_the_best_is_the_highest_and_the_first_of_equals(accuracies, best):
    coming = iter(accuracies)
    objective = SimpleNamespace(predictions=lambda *_: Predictions([], {"accuracy": next(coming)}, 1.0, ()))
    experiment = SimpleNamespace(
        task=SimpleNamespace(metrics=["accuracy"]), train=SimpleNamespace(eval_batch_size=1, evaluate_at_start=False)
    )
    stage = SimpleNamespace(objective=objective, experiment=experiment, encoded={"validation": None}, schedule=None)
    scoring = Scoring(SimpleNamespace(take_routing=dict), stage, SimpleNamespace(device="cpu"))
    events = [scoring.evaluated(step, 1.0) for step in range(1, len(accuracies) + 1)]
    assert max(event.step for event in events if event.best) == best
    assert (scoring.best.step, scoring.last.step) == (best, len(accuracies))
    assert scoring.best.predictions.scores == {"accuracy": max(accuracies)}
