"""`molex allocate`: rules side by side, without training."""

import json
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from molex_cli.cli import main
from molex_cli.methods.allocations.base import RULES
from molex_cli.models import loading

TINY = ["allocate", "model=tiny_bert", "rows=12", "total=14"]


def told(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_counts_scores_and_correlations_stand_side_by_side(capsys):
    found = told(capsys, *TINY, "rule=spectral,gradient,inverted,random", "max=9")
    assert list(found["rules"]) == ["spectral", "gradient", "inverted", "random"]
    for each in found["rules"].values():
        assert sum(each["counts"]) == 14
    rules = found["rules"]
    assert (rules["gradient"]["rows"], rules["spectral"]["rows"], rules["inverted"]["scores"]) == (12, 0, None)
    expected = spearmanr(rules["spectral"]["scores"], rules["gradient"]["scores"]).statistic
    assert found["spearman"]["spectral"]["gradient"] == pytest.approx(expected)
    shape = spearmanr(rules["inverted"]["counts"], rules["gradient"]["scores"]).statistic
    assert found["spearman"]["gradient"]["inverted"] == pytest.approx(shape)
    assert not Path("outputs").exists()


def test_the_table_has_the_numbers_of_the_json(capsys):
    rules = told(capsys, *TINY, "rule=similarity,top")["rules"]
    assert main([*TINY, "rule=similarity,top"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for layer in range(4):
        count, score = (rules["similarity"][name][layer] for name in ("counts", "scores"))
        assert lines[2 + layer].split() == [
            str(layer),
            str(count),
            f"({score:.3g})",
            str(rules["top"]["counts"][layer]),
        ]
    assert lines[6].split() == ["total", "14", "14"]
    assert any(line.startswith("similarity read 12 of ") for line in lines)


def test_without_a_name_all_rules_are_tried_and_what_one_lacks_costs_it_alone(capsys):
    found = told(capsys, *TINY)
    assert set(found["rules"]) == set(RULES)
    lacking = {name: each["problem"] for name, each in found["rules"].items() if each["problem"]}
    lacking.pop("probe", None)  # which may gain nothing on so few rows
    assert lacking == {"knockout": "from_run must be the folder of a finished run for rule=knockout, got none"}


def test_a_model_without_weights_is_allocated_by_what_needs_none(capsys):
    found = told(capsys, "allocate", "model=llama2_7b", "rule=spectral,gradient,random,top", "seed=3")
    assert sum(found["rules"]["random"]["counts"]) == sum(found["rules"]["top"]["counts"]) == 160
    for name in ("spectral", "gradient"):
        assert "model=llama2_7b must come from the hub" in found["rules"][name]["problem"]
        assert not found["rules"][name]["counts"]
    assert main(["allocate", "model=llama2_7b", "rule=spectral"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "spectral: model=llama2_7b must come from the hub" in line


@pytest.mark.parametrize("name", ["counts.svg", "counts.pdf", "counts.png"])
def test_the_counts_are_drawn(capsys, name):
    assert main([*TINY, "rule=spectral,inverted", "--figure", name]) == 0
    content = Path(name).read_bytes()
    assert content[:4] in (b"<?xm", b"%PDF", b"\x89PNG")
    assert list(Path().glob("*")) == [Path(name)] or len(content) > 1000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["rule=spektral"], "rule must be one of diamond, fisher"),
        (["rule=spektral"], "got spektral; did you mean spectral?"),
        (["rule=spectral", "total=3"], "the allocation must spend between 4 and 12 experts"),
        (["rule=spectral", "total=x"], "total must fit its type, got total=x"),
        (["rule=spectral", "total=9", "mean=2"], "the allocation must set mean or total"),
        (["rule=spectral", "min=-1"], "min must be at least 0, got -1"),
        (["rule=spectral", "rank=3"], "rank is no setting"),
        (["rule=spectral", "rows=0"], "rows must be at least 1, got 0"),
        (["rule=spectral", "log.every=2"], "log.every must be one of"),
        (["rule=spectral", "train.epochs=2"], "train.epochs must be one of"),
        (["rule=spectral", "--figure", "counts.bmp"], "--figure must be a file of .pdf, .svg, .png"),
        (["rule=knockout", "from_run=nowhere"], "from_run must be the folder of a finished run, got nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_line(capsys, settings, said):
    assert main(["allocate", "model=tiny_bert", *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_one_line(capsys):
    assert main(["allocate", "model=tiny_bert", "rule=spectral", "hardware.device=cuda"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "hardware.device must be a device of this machine, got cuda" in line


def test_a_shape_may_spend_what_a_rule_may_not(capsys):
    assert told(capsys, "allocate", "model=tiny_bert", "rule=top", "total=3")["rules"]["top"]["counts"] == [0, 0, 1, 2]


@pytest.mark.parametrize("hidden", [float("nan"), float("inf")])
def test_a_model_with_weights_that_are_not_finite_is_one_line_a_rule(capsys, monkeypatch, hidden):
    def load(settings, outputs, seed, cache_dir):
        backbone = loading.load(settings, outputs, seed, cache_dir)
        with torch.no_grad():
            backbone.linears()[0].module.weight[0, 0] = hidden
        return backbone

    monkeypatch.setattr("molex_cli.analysis.evidence.load", load)
    assert main([*TINY]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(RULES)
    told_of = "model=tiny_bert must have finite weights, got others in bert.encoder"
    assert sum(told_of in line for line in lines) == len(RULES) - 1  # knockout reads another model


def test_weights_of_zero_are_one_line_of_the_published_rule_alone(capsys, monkeypatch):
    def load(settings, outputs, seed, cache_dir):
        backbone = loading.load(settings, outputs, seed, cache_dir)
        with torch.no_grad():
            backbone.linears()[0].module.weight.zero_()
        return backbone

    monkeypatch.setattr("molex_cli.analysis.evidence.load", load)
    found = told(capsys, *TINY, "rule=spectral,spectral_paper")["rules"]
    assert found["spectral_paper"]["problem"].startswith("rule=spectral_paper must have eigenvalues above 0 alone")
    assert sum(found["spectral"]["counts"]) == 14


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_few_rows_for_a_probe_are_one_line_that_names_the_setting(capsys, rows):
    for seed in range(4):
        assert main(["allocate", "model=tiny_llama", "rule=probe", f"rows={rows}", f"seed={seed}"]) in (0, 2)
        error = capsys.readouterr().err
        assert error.count("\n") <= 1
        assert "train.max_rows" not in error


def test_the_threads_of_the_hardware_are_those_that_compute(capsys):
    before = torch.get_num_threads()
    try:
        told(capsys, *TINY, "rule=spectral", f"hardware.threads={before + 1}")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_without_a_total_there_are_five_a_layer(capsys):
    assert sum(told(capsys, "allocate", "model=tiny_bert", "rule=inverted")["rules"]["inverted"]["counts"]) == 20
