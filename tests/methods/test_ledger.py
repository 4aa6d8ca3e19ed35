"""Exact counts, without weights, against the papers' own numbers."""

import json
import subprocess
import sys

import pytest

from molex_cli.cli import main


def plan(capsys, *arguments: str) -> dict:
    assert main(["plan", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        (["method=mola_inverted"], 105_635_840),
        (["method=mola_triangle"], 105_635_840),
        (["method=mola", "method.allocation.bands=[2,4,6,8]"], 105_635_840),
        (["method=mola", "method.allocation.mean=4"], 84_508_672),
        (["method=mola", "method.allocation.mean=8"], 169_017_344),
        (["method=mola_paper"], 105_635_840),
        (["method=lora", "method.rank=64"], 159_907_840),
    ],
)
def test_llama2_7b_counts_as_in_mola_table_1(capsys, arguments, added):
    assert plan(capsys, "model=llama2_7b", *arguments)["parameters"]["added"] == added


def test_roberta_base_lora_on_query_and_value_counts_as_in_the_lora_paper(capsys):
    found = plan(capsys, "model=roberta_base", "method=lora", "method.targets=[query,value]")
    assert found["parameters"]["adapters"] == 294_912


@pytest.mark.parametrize(
    ("settings", "gates"),
    [
        ([], 9_228),
        (["method.gate_per_layer=true"], 110_736),
        (["method.gate=cosine", "method.gate_dim=96"], 74_977),
        (["method.gate=cosine", "method.gate_dim=416"], 324_897),
    ],
)
@pytest.mark.parametrize(("method", "alphas"), [("molex", 1), ("molex_paper", 2)])
def test_molex_on_roberta_base_counts_gates_and_alphas_apart(capsys, settings, gates, method, alphas):
    found = plan(capsys, "model=roberta_base", f"method={method}", "method.lora.targets=[query,value]", *settings)
    counts = found["parameters"]
    assert (counts["adapters"], counts["gates"], counts["alphas"]) == (294_912, gates, alphas)
    assert counts["added"] == 294_912 + gates + alphas


def test_a_learned_alpha_for_each_layer_is_counted(capsys):
    found = plan(capsys, "model=roberta_base", "method=molex", "method.alpha_per_layer=true", "method.inner=none")
    assert (found["parameters"]["alphas"], found["parameters"]["added"]) == (12, 12 + 9_228)


@pytest.mark.parametrize(
    ("settings", "active", "computed"),
    [
        (["method=molex"], 2, 2),
        (["method=molex", "method.layers=first_half"], 1.5, 1.5),
        (["method=molex", "method.guests=later"], 1 + 11 / 12, 1 + 11 / 12),
        (["method=molex", "method.level=token"], 2, 13),
        (["method=molex", "method.alpha=1", "method.alpha_form=fixed"], 1, 1),
    ],
)
def test_a_mixing_layer_costs_two(capsys, settings, active, computed):
    flops = plan(capsys, "model=roberta_base", *settings, "method.inner=none")["flops_per_token"]
    assert flops["active"] / flops["base"] == pytest.approx(active, rel=2e-3)
    assert flops["computed"] / flops["base"] == pytest.approx(computed, rel=2e-3)


def test_the_papers_own_experiments_count_as_published(capsys):
    mola = plan(capsys, "experiment=papers/mola/rte")["parameters"]
    assert (mola["added"], mola["total"]) == (105_635_840, 6_738_415_616 + 105_635_840)
    molex = plan(capsys, "experiment=papers/molex_e2e")
    assert (molex["parameters"]["adapters"], molex["parameters"]["gates"]) == (393_216, 24_600)
    flops = molex["flops_per_token"]  # 12 of the 24 layers mix
    assert flops["active"] / flops["base"] == pytest.approx(1.5, rel=5e-3)


def test_parts_add_up_and_experts_are_listed(capsys):
    found = plan(capsys, "model=llama2_7b")
    counts = found["parameters"]
    assert counts["trainable"] == counts["adapters"] + counts["routers"] + counts["head"]
    assert found["experts_per_layer"] == [2] * 8 + [4] * 8 + [6] * 8 + [8] * 8


def test_active_flops_count_the_chosen_experts_only(capsys):
    flops = plan(capsys, "model=minilm", "method=mola_rectangle")["flops_per_token"]
    weights = 4 * 2 * 384 + 2 * (384 + 1536)
    inputs = 4 * 384 + 384 + 1536
    routers = 6 * 2 * 5 * inputs
    assert flops["active"] - flops["base"] == 6 * 2 * (2 * 8) * weights + routers
    assert flops["computed"] - flops["base"] == 6 * 2 * (5 * 8) * weights + routers


def test_the_table_is_readable(capsys):
    assert main(["plan", "model=llama2_7b"]) == 0
    shown = capsys.readouterr().out
    assert "MoLA-▽ on llama2_7b" in shown
    assert "105,635,840" in shown


def test_a_mistake_in_plan_is_told_before_torch_is_imported():
    code = (
        "import sys; from molex_cli.cli import main; "
        "assert main(['plan', 'method.allocation.total=3']) == 2; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "method.allocation must spend between 6 and" in done.stderr


BERT_BASE = "{model_type:bert,hidden_size:768,num_hidden_layers:12,num_attention_heads:12,intermediate_size:3072}"


@pytest.mark.parametrize(("which", "biases"), [("blocks", 101_376), ("all", 102_912)])
def test_bitfit_counts_the_biases_of_the_blocks_or_all_exactly(capsys, which, biases):
    """Of BERT-base: 12 x (4 x 768 of attention + 768 + 3072 + 768 + 768); then embedding norm and pooler, 768 each."""
    planned = plan(capsys, "method=bitfit", "model=tiny_bert", f"model.config={BERT_BASE}", f"method.which={which}")
    assert planned["parameters"]["biases"] == biases


@pytest.mark.parametrize(
    ("model", "around"),
    [
        ("tiny_bert", {"bert.embeddings.LayerNorm.bias", "bert.pooler.dense.bias"}),
        ("tiny_gpt2", {"transformer.ln_f.bias"}),
        ("tiny_roberta", {"roberta.embeddings.LayerNorm.bias"}),
    ],
)
def test_all_biases_are_those_around_the_blocks_too(adapted, model, around):
    blocks, every = (
        set(adapted("method=bitfit", f"model={model}", f"method.which={which}").trainable())
        for which in ("blocks", "all")
    )
    assert every - blocks == around
    assert blocks < every
