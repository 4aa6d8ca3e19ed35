"""Budgets that are matched, with what is left over."""

import json
from pathlib import Path

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


def last_line(capsys, *arguments):
    assert main(["plan", MODEL, *arguments]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_a_budget_that_cannot_be_met_is_called_the_nearest_possible_one(capsys):
    found = planned(capsys, "method=molex", "--match", "lora:rank=16")["match"]
    line = last_line(capsys, "method=molex", "--match", "lora:rank=16")
    assert line.startswith("method.lora.rank=16 method.lora.alpha=32  nearest possible: ")
    assert f"nearest possible: {found['reached']:,.0f} parameters, {100 * found['left_over']:+.2g} %" in line
    assert f"(for {found['target']:,.0f} of lora:rank=16)" in line


def test_a_budget_that_is_met_is_said_to_be(capsys):
    line = last_line(capsys, "method=lora", "--match", "lora:rank=12")
    assert line.startswith("method.rank=12 method.alpha=24  21,504 parameters, exactly those of lora:rank=12")
    assert "nearest" not in line


@pytest.mark.parametrize("section", ["", "lora."])
def test_another_rank_keeps_alpha_over_rank(capsys, section):
    method = "molex" if section else "lora"
    found = planned(capsys, f"method={method}", f"method.{section}rank=8", "--match", "lora:rank=12")["match"]
    assert found["overrides"] == [f"method.{section}rank=12", f"method.{section}alpha=24"]
    assert found["scales"] == [2.0, 2.0]  # of rank 8 and alpha 16
    line = last_line(capsys, f"method={method}", "--match", "lora:rank=12")
    assert line.endswith("; alpha over rank stays 2, 1.33 in lora:rank=12")
    line = last_line(capsys, f"method={method}", "--match", "lora:rank=12,alpha=24")
    assert line.endswith("; alpha over rank stays 2")


def test_an_alpha_that_is_no_whole_number_keeps_the_factor_too(capsys):
    found = planned(capsys, "method=lora", "method.rank=3", "--match", "lora:rank=7")["match"]
    (_, alpha) = found["overrides"]
    assert float(alpha.partition("=")[2]) / 7 == pytest.approx(16 / 3, rel=1e-11)
    setting = [f"method={each}" if each == "lora" else each for each in ("lora", *found["overrides"])]
    assert planned(capsys, *setting)["parameters"]["added"] == found["reached"]


def test_an_alpha_that_was_set_stays_and_the_change_is_named(capsys):
    set_alpha = ["method=mola_inverted", "method.alpha=16"]
    found = planned(capsys, *set_alpha, "--match", "lora:rank=12")["match"]
    assert found["overrides"] == ["method.rank=2"]
    line = last_line(capsys, *set_alpha, "--match", "lora:rank=12")
    assert line.endswith("; alpha over rank changes from 2 to 8, as alpha was set, 1.33 in lora:rank=12")


def test_ranks_that_change_by_layer_name_the_change_and_experts_change_nothing(capsys):
    of_layers = ["method=lora", "method.allocation.shape=inverted", "--match", "lora:rank=60", "--solve", "total"]
    before, after = planned(capsys, *of_layers)["match"]["scales"]
    assert after < before
    assert f"alpha over rank changes from {before:.3g} to {after:.3g}" in last_line(capsys, *of_layers)
    assert "alpha" not in last_line(capsys, "method=mola_inverted", "--match", "lora:rank=60", "--solve", "total")


def test_a_rank_that_stays_changes_no_alpha(capsys):
    line = last_line(capsys, "method=lora", "--match", "lora:rank=8")
    assert line.startswith("method.rank=8  ")
    assert "alpha" not in line


SEVERAL = ["method=lora,mola_inverted,molex", "--match", "lora:rank=12"]


def test_several_arms_get_a_setting_each_and_one_sweep_has_them_all(capsys):
    assert main(["plan", MODEL, *SEVERAL]) == 0
    *arms, words, command = capsys.readouterr().out.splitlines()
    alone = [last_line(capsys, arm.partition(":")[0], *SEVERAL[1:]) for arm in arms]
    assert arms == [f"method={m}: {line}" for m, line in zip(("lora", "mola_inverted", "molex"), alone, strict=True)]
    assert words == "one sweep of them:"
    assert command.split() == ["molex", "train", "-m", MODEL, SEVERAL[0], "seed=0,1,2", *SEVERAL[1:]]
    assert main(["plan", MODEL, *SEVERAL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["arms"]
    assert [each["setting"] for each in found.values()] == [line.split()[0] for line in alone]


def test_arms_on_several_models_meet_the_budget_on_their_own(capsys):
    assert main(["plan", "model=tiny_bert,tiny_llama", "method=mola_inverted", "--match", "lora", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["arms"]
    assert len({each["target"] for each in found.values()}) == 2
    for arm, each in found.items():
        assert main(["plan", "--json", arm, "method=lora"]) == 0
        assert json.loads(capsys.readouterr().out)["parameters"]["added"] == each["target"]


def test_a_sweep_brings_its_arms_to_one_budget(capfd):
    sweep = ["train", "-m", "experiment=smoke", "method=lora,mola_inverted", "seed=0,1", "--match", "lora:rank=12"]
    assert main(sweep) == 0
    said = capfd.readouterr().out
    assert "matched method=lora: method.rank=12 method.alpha=24  21,504 parameters, exactly those of lora" in said
    assert "matched method=mola_inverted: method.rank=2 method.alpha=4  nearest possible: 22,400" in said
    found = [json.loads(path.read_text()) for path in Path("outputs").glob("*/record.json")]
    of = {(r["settings"]["method"]["name"], r["settings"]["method"]["rank"], r["parameters"]["added"]) for r in found}
    assert of == {("lora", 12, 21504), ("mola_inverted", 2, 22400)}
    assert {r["settings"]["method"]["alpha"] / r["settings"]["method"]["rank"] for r in found} == {2.0}
    assert main(sweep) == 0  # the same command finds its runs
    assert "there already: 4 finished; to run: 0 of 4" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--solve", "total"], "--solve and --by must go with --match"),
        (["--cfg", "job", "--match", "lora:rank=2"], "--match must go without --cfg"),
        (["--match", "lra"], "--match must begin with a method, got lra; did you mean lora?"),
        (["method=lora,bitfit", "-m", "--match", "lora"], "--solve must be a setting of method=bitfit, got rank"),
        (["-m", "seed=0,1", "hydra/sweeper=optuna", "--match", "lora"], "--match must go without an optimiser"),
    ],
)
def test_a_sweep_that_cannot_be_matched_is_refused_before_it_begins(capsys, arguments, words):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    assert main(["train", "experiment=smoke", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not Path("outputs/sweeps").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["method=lora", "--match", "lra:rank=2"], "--match must begin with a method, got lra; did you mean lora?"),
        (["method=lora", "--match", "lora:rnk=2"], "method.rnk is no setting"),
        (["method=bitfit", "--match", "lora"], "--solve must be a setting of method=bitfit, got rank"),
        (["method=molex", "--match", "full", "--solve", "mean"], "--solve must be a setting of method=molex, got mean"),
        (["method=lora", "--match", "lora", "--by", "cost"], "--by must be one of "),
        (["method=mola_inverted", "--match", "lora:rank=1", "--solve", "total"], "must"),
    ],
)
def test_a_budget_that_cannot_be_matched_is_refused_in_one_line(capsys, arguments, words):
    assert main(["plan", MODEL, *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_the_factor_of_alpha_over_the_root_of_the_rank_is_kept_too(capsys):
    root = ["method=lora", "method.rank=4", "method.alpha=8", "method.scaling=alpha_over_root_rank"]
    assert main(["plan", MODEL, *root[:2], root[3], "--match", "lora:rank=16"]) == 0
    assert "method.rank=16 method.alpha=32" in (told := capsys.readouterr().out)
    assert "alpha over root rank stays 8" in told
