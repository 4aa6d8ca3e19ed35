"""Which objective a task gets, and what registers itself twice."""

import dataclasses

import pytest

from molex_cli.config.task import AnswerMode, Kind
from molex_cli.errors import ConfigError, TaskError
from molex_cli.methods.allocations.base import SHAPES
from molex_cli.methods.allocations.base import register as register_shape
from molex_cli.methods.base import METHODS, method
from molex_cli.metrics.base import METRICS
from molex_cli.metrics.base import register as register_metric
from molex_cli.objectives import build_objective, head_outputs
from molex_cli.objectives.base import OBJECTIVES, objective


def test_every_kind_and_answer_mode_has_one_standard_objective():
    served = [(kind, mode) for each in OBJECTIVES.values() if each.is_standard for kind in each.kinds
              for mode in each.answer_modes]  # fmt: skip
    assert len(set(served)) == len(served)
    assert {kind for kind, _ in served} == set(Kind)
    assert {mode for _, mode in served} == set(AnswerMode) - {AnswerMode.auto}


@pytest.mark.parametrize("name", ["classificaton", "causal_lm", "no"])
def test_an_objective_that_does_not_serve_the_task_is_refused_with_those_that_do(experiment, name):
    made = experiment("method=lora", f"task.objective={name}")
    for build in (build_objective, head_outputs):
        with pytest.raises(TaskError) as error:
            build(made.task, made.model, ["no", "yes"])
        assert str(error.value).startswith(f"task.objective must serve kind=classification by head, got {name}; ")
        assert "classification" in str(error.value).rpartition(";")[2]


def test_the_standard_objective_by_its_name_is_the_same(experiment):
    made = experiment("method=lora")
    named = dataclasses.replace(made.task, objective="classification")
    kinds = {type(build_objective(task, made.model, ["no", "yes"])) for task in (made.task, named)}
    assert len(kinds) == 1


@pytest.mark.parametrize(
    "again",
    [
        lambda: method("lora")(METHODS["lora"]),
        lambda: register_metric(METRICS["accuracy"]),
        lambda: register_shape("inverted", SHAPES["inverted"]),
        lambda: objective("causal_lm", kinds=(), answer_modes=(), head_outputs=lambda task, labels: 1)(object),
    ],
    ids=["method", "metric", "shape", "objective"],
)
def test_nothing_takes_the_name_of_another_unseen(again):
    with pytest.raises(ConfigError, match="must have a name of its own, got a second"):
        again()
