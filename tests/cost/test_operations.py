"""`molex bench --operations`: what is counted, that fake tensors count as real ones do, and how lean our steps are."""

import json
from collections import Counter

import pytest
import torch

from molex_cli.cli import main
from molex_cli.cost import operations, training_step
from molex_cli.cost.operations import OperationCounter
from molex_cli.errors import ConfigError
from molex_cli.models.loading import load

WORK = training_step.Load(rows=2, tokens=16)


def test_views_are_not_counted_and_all_else_is():
    x = torch.randn(2, 3, 4)
    with OperationCounter() as counter:
        linear = torch.nn.Linear(4, 5)(x)  # which makes its weights too
    made = counter.operations
    with OperationCounter() as counter:
        linear.view(6, 5).t().unsqueeze(0).expand(2, 5, 6)[0, 1:3].detach().squeeze_()
        (linear @ torch.ones(5, 5)).relu_()
        linear.reshape(30).contiguous()
        linear.transpose(0, 1).contiguous()
    assert counter.operations == Counter({"ones.default": 1, "mm.default": 1, "relu_.default": 1, "clone.default": 1})
    assert made["addmm.default"] == 1


def test_the_backward_pass_is_counted():
    weight = torch.ones(3, requires_grad=True)
    with OperationCounter() as counter:
        weight.exp().sum().backward()
    assert counter.operations == Counter({"exp.default": 1, "sum.default": 1, "ones_like.default": 1, "mul.Tensor": 1})


@pytest.mark.parametrize("method", ["mola_inverted", "mixlora", "lora"])
def test_a_step_without_values_has_the_operations_of_a_real_one(experiment, method):
    settings = experiment("model=tiny_bert", f"method={method}")
    adapted = settings.method.inject(load(settings.model, 2, seed=0))
    loss = training_step.losses(adapted, WORK, masked=False)
    loss().backward()
    adapted.model.zero_grad()
    with OperationCounter() as counter:
        loss().backward()
    fake = operations.operations(settings.method.inject, settings.model, WORK)
    assert fake == counter.operations


@pytest.mark.parametrize(
    ("method", "dropout", "most"),
    [
        ("mola_inverted", 0.0, 1.15),
        ("mola_inverted", 0.05, 1.15),
        ("mixlora", 0.0, 1.15),
        ("mixlora", 0.05, 1.15),
        ("lora", 0.0, 0.76),
        ("lora", 0.05, 0.75),
    ],
)
def test_a_step_has_at_most_so_many_of_the_operations_of_pefts_lora(experiment, method, dropout, most):
    settings = experiment("model=tiny_bert", f"method={method}")
    settings.method = settings.method.with_dropout(dropout)
    arms = {arm.name: arm for arm in operations.counted([settings], WORK)}
    assert arms[method].ratio[training_step.PEFT] <= most
    assert arms[method].operations == sum(arms[method].by_name.values())
    assert arms[training_step.FLOOR].operations < min(arms[name].operations for name in (method, training_step.PEFT))


@pytest.mark.parametrize("method", ["mola", "mixlora"])
def test_operations_do_not_grow_with_experts(experiment, method):
    few, many = (
        experiment("model=tiny_bert", f"method={method}", f"method.allocation.layers=[{layers}]")
        for layers in ("3,3,3,3", "8,8,8,8")
    )
    assert operations.operations(few.method.inject, few.model, WORK) == operations.operations(
        many.method.inject, many.model, WORK
    )


def test_a_layer_of_molex_has_one_guest_that_is_not_itself(experiment):
    settings = experiment("model=tiny_bert", "method=molex")
    arms = {arm.name: arm.operations for arm in operations.counted([settings], WORK)}
    inner, alone, mixed = (arms[name] for name in ("inner of molex", "molex (all choose self)", "molex"))
    assert inner < alone < 1.2 * inner < mixed < 2.4 * inner
    token = experiment("model=tiny_bert", "method=molex", "method.level=token")
    with pytest.raises(ConfigError, match=r"method.level must be sequence or batch to be counted, got token"):
        operations.counted([token], WORK)


def test_the_command_counts_without_a_bias_too_and_prints_both_forms(capsys):
    command = ["bench", "--operations", "model=tiny_llama", "method=lora", "--dropout", "0", "--rows", "2"]
    assert main([*command, "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    arms = {arm["name"]: arm for arm in table["arms"]}
    assert list(arms) == ["bitfit (floor)", "peft lora", "lora"]
    assert arms["lora"]["ratio"]["peft lora"] < 1
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "operations a step" in shown
    assert f"lora {arms['lora']['operations']}" in " ".join(shown.split())


def test_answering_is_not_counted(capsys):
    assert main(["bench", "--operations", "--inference"]) == 2
    assert "--operations must be left out with --inference" in capsys.readouterr().err
