"""Dropout and other settings of a base: heard for every source of weights, or refused by name."""

import json

import pytest
import torch
from conftest import TINY_MODELS, batch
from transformers import PreTrainedConfig

from molex_cli.checkpoints import adapter
from molex_cli.errors import ConfigError, ModelError
from molex_cli.models.adjusting import with_dropout
from molex_cli.models.byte_tokenizer import byte_tokenizer
from molex_cli.models.loading import load, skeleton
from molex_cli.models.settings import Model


@pytest.mark.parametrize("model", TINY_MODELS)
@pytest.mark.parametrize("outputs", [2, None])
def test_without_dropout_a_model_trains_as_it_evaluates(experiment, model, outputs):
    if outputs is None and model not in ("tiny_gpt2", "tiny_llama"):
        pytest.skip("answers with a head")
    data = batch()
    data.pop("labels")
    with torch.no_grad():
        none = load(experiment(f"model={model}", "model.dropout=0").model, outputs, 0).model
        expected = none.eval()(**data).logits
        assert torch.equal(none.train()(**data).logits, expected)
        # Other probabilities arrive too.
        much = load(experiment(f"model={model}", "model.dropout=0.5").model, outputs, 0).model
        assert torch.equal(much.eval()(**data).logits, expected)
        assert (much.train()(**data).logits - expected).abs().max() > 1e-3
    assert {module.p for module in much.modules() if isinstance(module, torch.nn.Dropout)} <= {0.5}


def test_null_leaves_the_dropout_of_the_config(experiment):
    config = load(experiment("model=tiny_gpt2").model, None, 0).model.config
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.1, 0.1, 0.1)


@pytest.fixture
def folder(experiment, tmp_path):
    """Return a folder with a tiny BERT and its tokenizer."""
    backbone = load(experiment("model=tiny_bert").model, 2, 0)
    backbone.model.base_model.save_pretrained(tmp_path / "bert")
    byte_tokenizer(256).save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


def of(folder, dropout=None, **config):
    return Model(name="mine", folder=folder, config=config, dropout=dropout)


def test_dropout_of_a_checkpoint_is_what_the_settings_say(folder):
    data = batch()
    data.pop("labels")
    with torch.no_grad():
        plain = load(of(folder), 2, 0).model
        made = load(of(folder, dropout=0.0), 2, 0).model
        expected = plain.eval()(**data).logits
        assert torch.equal(made.train()(**data).logits, expected)
        assert not torch.equal(plain.train()(**data).logits, expected)


def test_settings_that_no_weight_depends_on_are_applied_to_a_checkpoint(folder):
    for build in (load, lambda settings, outputs, seed: skeleton(settings, outputs)):
        model = build(of(folder, hidden_act="relu", hidden_dropout_prob=0.3, layer_norm_eps=1e-3), 2, 0).model
        assert model.config.hidden_act == "relu"
        assert model.base_model.encoder.layer[0].output.LayerNorm.eps == 1e-3
        assert model.base_model.encoder.layer[0].output.dropout.p == 0.3
    loaded = load(of(folder), 2, 0).model
    assert loaded.config.hidden_act == "gelu"


def test_a_true_description_changes_nothing_and_an_untrue_one_is_loud(folder):
    described = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    one, other = load(of(folder, **described), 2, 0).model, load(of(folder), 2, 0).model
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    for name, value, there in (
        ("hidden_size", 64, 32),
        ("num_attention_heads", 2, 4),
        ("num_hidden_layers", 2, 4),
        ("model_type", "gpt2", "bert"),
    ):
        with pytest.raises(ModelError, match=f"model.config.{name} must be that of the weights of mine, {there}, got"):
            load(of(folder, **described | {name: value}), 2, 0)


def test_settings_that_are_none_or_set_elsewhere_are_refused_by_name(folder):
    with pytest.raises(
        ModelError, match=r"model\.config\.hiden_act must be a setting of bert .*did you mean hidden_act"
    ):
        load(of(folder, hiden_act="relu"), 2, 0)
    with pytest.raises(ModelError, match=r"model\.config\.use_cache must be a setting of bert for mine; it is set by"):
        load(of(folder, use_cache=True), 2, 0)
    with pytest.raises(
        ModelError, match=r"must leave the shapes of the weights of mine as they are, .*is_decoder.*; leave"
    ):
        load(of(folder, is_decoder=True, add_cross_attention=True), 2, 0)


def test_dropout_of_a_config_that_has_none_comes_with_the_way_out():
    with pytest.raises(ModelError, match=r"model\.dropout must be null for mine, .* got 0\.1; leave it out$"):
        with_dropout(PreTrainedConfig(), Model(name="mine", dropout=0.1))


def test_dropout_that_contradicts_itself_is_refused(experiment):
    for settings, said in (
        (["model.dropout=1"], r"model\.dropout must be at least 0 and below 1, got 1"),
        (
            ["model.dropout=0", "model.config.hidden_dropout_prob=0.2"],
            r"model\.dropout must be null where model\.config\.hidden_dropout_prob is set",
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            experiment("model=tiny_bert", *settings)


def test_a_run_with_a_dropout_of_its_own_is_saved_and_loaded(experiment, tmp_path):
    made = experiment("model=tiny_bert", "method=lora", "model.dropout=0")
    adapted = adapter.adapt(made, ["no", "yes"])
    adapter.save(tmp_path / "a.safetensors", adapted, made, ["no", "yes"], step=1)
    saved, again = adapter.load(tmp_path / "a.safetensors")
    assert saved.experiment.model.dropout == 0
    assert again.model.config.hidden_dropout_prob == 0


@pytest.mark.parametrize("model", ["minilm", "smollm2_135m"])
def test_the_descriptions_of_packaged_models_fit_them(experiment, model, tmp_path):
    from molex_cli.models.adjusting import adjusted
    from molex_cli.models.sources import package_folder

    settings = experiment(f"model={model}").model
    if settings.gguf:
        pytest.skip("its config is in the GGUF file: test_loading converts it")
    pytest.importorskip(settings.package)
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(package_folder(settings))
    again = adjusted(config, settings, lambda config: pytest.fail("nothing differs"))
    assert json.loads(again.to_json_string()) == json.loads(config.to_json_string())
