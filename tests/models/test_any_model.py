"""Models of any family: their limits, heads that do not fit, tokenizers without a Rust backend, what is saved."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ByT5Tokenizer,
)

from molex_cli.cli import main
from molex_cli.config import schema
from molex_cli.data.encoding import encode
from molex_cli.data.reading import Split
from molex_cli.errors import ModelError
from molex_cli.models import loading
from molex_cli.models.byte_tokenizer import VOCABULARY_SIZE, byte_tokenizer
from molex_cli.models.hub import repositories
from molex_cli.models.loading import load, longest_input, reader, skeleton
from molex_cli.models.settings import LAYERS, Model
from molex_cli.models.sources import converted
from molex_cli.models.structure import Backbone

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "vocab_size": 300,
    "max_position_embeddings": 24, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24, "vocab_size": 300, "pad_token_id": 1}
TRAIN = ["train", "experiment=smoke", "method=lora", "train.max_steps=1", "hardware.threads=1"]


@pytest.mark.parametrize(
    ("family", "limit"),
    [("bert", 24), ("roberta", 22), ("mpnet", 22), ("esm", 22), ("longformer", 22), ("gpt2", 24), ("llama", 24)],
)
def test_the_longest_input_is_what_the_table_of_positions_holds(family, limit):
    sizes = GPT if family == "gpt2" else SIZES
    config = AutoConfig.for_model(family, **sizes, **({"attention_window": 4} if family == "longformer" else {}))
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert longest_input(Backbone(model, None)) == limit
    model(input_ids=torch.full((1, limit), 5))
    if family not in ("llama", "longformer"):  # rotated positions go on; longformer pads by itself
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, limit + 1), 5))


def test_relative_positions_have_no_limit():
    config = AutoConfig.for_model("deberta-v2", **SIZES, relative_attention=True, position_biased_input=False)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert longest_input(Backbone(model, None)) is None
    model(input_ids=torch.full((1, 100), 5))


def saved(folder, labels, **changed):
    """Write a small classifier with its tokenizer, as someone has trained it; return it as the settings of a model."""
    sizes = {**SIZES, "vocab_size": VOCABULARY_SIZE, "pad_token_id": 0, "max_position_embeddings": 64, **changed}
    config = AutoConfig.for_model("bert", num_labels=labels, **sizes)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    byte_tokenizer(64).save_pretrained(folder)
    return Model(name="mine", folder=str(folder))


def test_a_head_of_another_size_is_left_out_and_a_line_says_so(tmp_path, capsys):
    folder = tmp_path / "three"
    saved(folder, 3)
    source = ["model=folder", f"model.folder={folder}"]
    assert main([*TRAIN, *source]) == 0
    out = capsys.readouterr().out
    assert "note: the head that the model came with is left out, a fresh one of 2 outputs trained: classifier" in out
    (run,) = Path("outputs").glob("builtin*")
    assert main(["eval", f"run={run}"]) == 0  # it opens again
    one, other = (load(Model(name="mine", folder=str(folder)), 2, seed=seed).model for seed in (0, 1))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_a_head_that_fits_is_kept_without_a_word(tmp_path):
    backbone = load(saved(tmp_path / "two", 2), 2, seed=0)
    assert backbone.note == ""


def test_a_misfit_outside_the_head_is_an_error(tmp_path):
    settings = saved(tmp_path / "bad", 2)
    path = tmp_path / "bad" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 48}))
    with pytest.raises(ModelError, match=r"model=mine must be loadable from .*, got: .* is \[32.*\] in its files"):
        load(settings, 2, seed=0)


def test_a_tokenizer_in_python_alone_encodes_and_its_cache_knows_it(tmp_path):
    split = Split(["train:0", "train:1"], [("ab",), ("c",)], [0, 1])
    tokenizer = ByT5Tokenizer()
    assert not hasattr(tokenizer, "backend_tokenizer")
    first = encode(split, tokenizer, 16, tmp_path)
    assert [first.row(i)[0].tolist() for i in range(2)] == [tokenizer(text)["input_ids"] for text in ("ab", "c")]
    assert encode(split, ByT5Tokenizer(), 16, tmp_path).tokens.tolist() == first.tokens.tolist()
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    encode(split, ByT5Tokenizer(extra_ids=3), 16, tmp_path)
    assert len(list(tmp_path.rglob("*.npz"))) == 2


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
def test_a_merged_decoder_generates_in_transformers(model, capsys):
    assert main([*TRAIN, f"model={model}"]) == 0
    (run,) = Path("outputs").glob("builtin*")
    assert main(["merge", str(run), "--output", "merged"]) == 0
    tokenizer = AutoTokenizer.from_pretrained("merged")
    inputs = tokenizer("A cat", return_tensors="pt")
    assert ("token_type_ids" in inputs) == (model == "tiny_gpt2")  # which takes them
    written = AutoModelForCausalLM.from_pretrained("merged").generate(**inputs, max_new_tokens=2)
    assert written.shape[1] > inputs["input_ids"].shape[1]


def test_a_cache_that_cannot_be_written_is_said_before_a_conversion(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cache_dir must be a folder that can be written to, got .*file"):
        converted(tmp_path / "model.gguf", tmp_path / "file")


def test_a_merged_encoder_keeps_its_token_types(capsys):
    assert main(TRAIN) == 0
    (run,) = Path("outputs").glob("builtin*")
    assert main(["merge", str(run), "--output", "merged"]) == 0
    assert "token_type_ids" in AutoTokenizer.from_pretrained("merged")("a", "b")


@pytest.mark.parametrize("family", ["tiny_distilbert", "tiny_gpt2", "tiny_bert"])
def test_layers_are_counted_before_the_run_under_every_name(family, experiment):
    settings = experiment(f"model={family}", "method=mola")
    settings.method.allocation.layers = [2, 2, 2]
    found = [problem for problem in schema.problems(settings) if "allocation" in problem]
    assert found
    assert "4 layers" in found[0]
    unknown = dataclasses.replace(settings, model=Model(name="x", folder="y"))
    assert not list(schema.problems(unknown))


def test_the_names_of_the_number_of_layers_are_those_of_transformers():
    for family in ("bert", "llama", "gpt2", "bloom", "codegen", "distilbert", "xlm", "mpt", "gpt_neo", "t5"):
        config = AutoConfig.for_model(family)
        assert getattr(config, "attribute_map", {}).get("num_hidden_layers", "num_hidden_layers") in LAYERS, family


def test_rows_can_be_read_for_a_model_without_its_weights(experiment):
    settings = experiment("model=tiny_bert").model
    backbone = reader(settings, 2)
    assert all(parameter.is_meta for parameter in backbone.model.parameters())
    assert backbone.tokenizer("a") == load(settings, 2, seed=0).tokenizer("a")


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_a_head_is_trained_on_its_own_problem_not_on_that_of_its_folder(kind, labels, tmp_path):
    settings = saved(tmp_path, labels, problem_type=kind)
    backbone = load(settings, 2, seed=0)
    for config in (backbone.model.config, reader(settings, 2).model.config, skeleton(settings, 2).model.config):
        assert (config.num_labels, config.problem_type) == (2, None)
        assert (sorted(config.id2label), sorted(config.label2id.values())) == ([0, 1], [0, 1])
    inputs, answers = torch.tensor([[5, 6], [7, 8]]), torch.tensor([0, 1])
    made = backbone.model.eval()(input_ids=inputs, labels=answers)
    torch.testing.assert_close(made.loss, torch.nn.functional.cross_entropy(made.logits, answers))


def test_the_problem_of_a_random_model_is_not_the_users_to_set(experiment):
    with pytest.raises(ModelError, match="problem_type"):
        load(experiment("model=tiny_bert", "+model.config.problem_type=regression").model, 2, seed=0)


def test_counting_reads_the_revision_that_is_trained(monkeypatch):
    asked = []

    def noted(source, *, weights):
        asked.append((source.revision, weights))
        raise ModelError("enough")

    monkeypatch.setattr(repositories, "folder", noted)
    known = {"model_type": "bert"}
    for config in ({}, known):  # what the settings describe is the main branch
        settings = Model(name="mine", hub="some/model", revision="v2", config=config)
        for build in (skeleton, reader, lambda model, _: loading.family(model)):
            with pytest.raises(ModelError, match="enough"):
                build(settings, 2)
    assert asked == [("v2", False)] * 6
