"""Budgets that are matched, with what is left over."""

import json

import pytest

from molex_cli.cli import main

MODEL = "model=tiny_bert"


def planned(capsys, *arguments):
    assert main(["plan", MODEL, "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("method", ["mola_inverted", "mixlora", "molex", "lora"])
def test_the_rank_found_is_the_best_of_all_ranks(capsys, method):
    found = planned(capsys, f"method={method}", "--match", "lora:rank=12")
    target = planned(capsys, "method=lora", "method.rank=12")["parameters"]["added"]
    key, _, value = found["match"]["setting"].partition("=")
    assert found["match"]["target"] == target
    assert found["match"]["reached"] == found["parameters"]["added"]
    assert found["match"]["left_over"] == pytest.approx(found["parameters"]["added"] / target - 1)
    others = [planned(capsys, f"method={method}", f"{key}={rank}") for rank in range(1, 16)]
    misses = [abs(each["parameters"]["added"] - target) for each in others]
    assert misses.index(min(misses)) + 1 == int(value)


@pytest.mark.parametrize("solve", ["total", "mean"])
def test_experts_are_found_as_total_or_mean(capsys, solve):
    found = planned(capsys, "method=mola_inverted", "--match", "lora:rank=60", "--solve", solve)
    totals = {}
    for total in range(sum(found["experts_per_layer"]) - 2, sum(found["experts_per_layer"]) + 3):
        fixed = ["method.allocation.mean=null", f"method.allocation.total={total}"]
        totals[total] = planned(capsys, "method=mola_inverted", *fixed)["parameters"]["added"]
    nearest = min(totals, key=lambda total: abs(totals[total] - found["match"]["target"]))
    assert sum(found["experts_per_layer"]) == nearest


def test_flops_may_be_the_budget(capsys):
    found = planned(capsys, "method=lora", "--match", "mola_inverted", "--by", "flops")
    assert abs(found["match"]["left_over"]) < 0.01
    assert found["match"]["reached"] == found["flops_per_token"]["active"]


def test_what_is_left_over_is_said(capsys):
    assert main(["plan", MODEL, "method=molex", "--match", "lora:rank=16"]) == 0
    assert "method.lora.rank=" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["method=lora", "--match", "lra:rank=2"], "--match must begin with a method, got lra; did you mean lora?"),
        (["method=lora", "--match", "lora:rnk=2"], "method.rnk is no setting"),
        (["method=bitfit", "--match", "lora"], "--solve must be a setting of method=bitfit, got rank"),
        (["method=molex", "--match", "full", "--solve", "mean"], "--solve must be a setting of method=molex, got mean"),
        (["method=lora", "--match", "lora", "--by", "cost"], "the arguments must be those that --help lists"),
        (["method=mola_inverted", "--match", "lora:rank=1", "--solve", "total"], "must"),
    ],
)
def test_a_budget_that_cannot_be_matched_is_refused_in_one_line(capsys, arguments, words):
    assert main(["plan", MODEL, *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
