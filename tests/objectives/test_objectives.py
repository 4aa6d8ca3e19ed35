"""Which objective a task gets, and what registers itself twice."""

import dataclasses

import pytest
import torch
from conftest import batch

from molex_cli.checkpoints import adapter
from molex_cli.config.task import AnswerMode, Kind
from molex_cli.errors import ConfigError, TaskError
from molex_cli.methods.allocations.base import SHAPES
from molex_cli.methods.allocations.base import register as register_shape
from molex_cli.methods.base import METHODS, method
from molex_cli.metrics.base import METRICS
from molex_cli.metrics.base import register as register_metric
from molex_cli.objectives import build_objective, head_outputs
from molex_cli.objectives.base import OBJECTIVES, objective
from molex_cli.objectives.splits import position_problems


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


def smoothed(log_p, right, smoothing):
    """Return (1 - s) x the target's nats + s x the mean over the classes, by hand."""
    nats = [
        -(1 - smoothing) * row[label] - smoothing * sum(row) / len(row) for row, label in zip(log_p, right, strict=True)
    ]
    return sum(nats) / len(nats)


def test_label_smoothing_gives_every_label_its_share(adapted, experiment):
    made, settings = adapted("method=head"), experiment("method=head")
    objective = build_objective(settings.task, settings.model, ["no", "yes"], 0.3)
    made.model.eval()
    data = batch(num_rows=4)
    log_p = made.model(**data).logits.log_softmax(-1).tolist()
    assert objective.loss(made.model, data).item() == pytest.approx(smoothed(log_p, data["labels"].tolist(), 0.3))
    plain = build_objective(settings.task, settings.model, ["no", "yes"])
    assert plain.loss(made.model, data).item() == pytest.approx(smoothed(log_p, data["labels"].tolist(), 0.0))


def test_choices_that_a_question_does_not_have_get_no_share(adapted, experiment):
    settings = experiment("method=head", "task=science_qa")
    objective = build_objective(settings.task, settings.model, [], 0.3)
    made = adapter.adapt(settings, [])
    made.model.eval()
    data = {**batch(num_rows=5), "sizes": torch.tensor([2, 3]), "labels": torch.tensor([1, 0])}
    given = {name: tensor for name, tensor in data.items() if name not in ("sizes", "labels")}
    scores = made.model(**given).logits[:, 0]
    log_p = [part.log_softmax(0).tolist() for part in scores.split([2, 3])]
    loss = objective.loss(made.model, data)
    assert loss.item() == pytest.approx(smoothed(log_p, [1, 0], 0.3), abs=1e-6)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.trainable().values())


def test_label_smoothing_is_refused_where_it_means_nothing(experiment, monkeypatch):
    with pytest.raises(ConfigError, match=r"label_smoothing must be 0 for kind=regression, got 0\.1 .*; leave it out"):
        experiment("task=glue/stsb", "train.label_smoothing=0.1")
    with pytest.raises(ConfigError, match=r"train\.label_smoothing must be at least 0 and below 1, got 1"):
        experiment("train.label_smoothing=1")
    settings = experiment("method=head")
    own = dataclasses.replace(OBJECTIVES["classification"], smooths_labels=False)
    monkeypatch.setitem(OBJECTIVES, "classification", own)
    with pytest.raises(
        TaskError, match=r"train\.label_smoothing must be 0 for task\.objective=classification, .*; leave it out"
    ):
        build_objective(settings.task, settings.model, ["no", "yes"], 0.1)


@pytest.mark.parametrize(
    ("length", "written", "way_out"),
    [
        (300, 0, "set train.max_length=256"),
        (300, 56, "set train.max_length=200"),
        (250, 56, "set train.max_length=200"),
        (250, 256, "lower task.language.max_new_tokens"),
    ],
)
def test_a_length_beyond_the_positions_comes_with_one_that_fits(experiment, length, written, way_out):
    (line,) = position_problems(experiment(f"train.max_length={length}"), 256, written)
    assert line.endswith(f"; {way_out}")
