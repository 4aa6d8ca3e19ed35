"""The layers below all that trains: computed once for each row, and nothing else is another number for it."""

import json
from pathlib import Path

import pytest
from support.frozen import BLOCKS, SHORT, STILL, expect_equal, trained, upper
from support.runs import interrupted, only_record, sequence
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from molex_cli.cli import main
from molex_cli.records import cached_prefixes
from molex_cli.run import run


@pytest.mark.parametrize("method", ["lora", "mola_inverted", "mixlora"])
@pytest.mark.parametrize("model", STILL)
def test_a_run_that_reads_its_frozen_layers_is_the_run_that_computes_them(model, method):
    settings = [f"method={method}", *upper(model)]
    plain = trained("plain", *settings, "cache_gb=0")
    read = trained("read", *settings)
    expect_equal(read, plain)
    assert "frozen_layers" not in plain[0] or not plain[0]["frozen_layers"]
    about = read[0]["frozen_layers"]
    assert about["layers"] == 2
    assert about["rows_built"] > 0
    assert about["rows_read"] >= 2 * 32
    assert about["bytes"] > 0
    assert read[0]["checks"]["reload"]["passed"]


@pytest.mark.parametrize("model", sorted(BLOCKS))
def test_dropout_in_frozen_layers_is_let_be_unless_it_is_switched_off(model):
    settings = ["method=lora", *upper(model)]
    record, *_, notes = trained("default", *settings)
    assert record["frozen_layers"]["layers"] == 0
    assert sum("train.frozen_dropout=false" in note for note in notes) == 1
    plain = trained("plain", *settings, "cache_gb=0", "train.frozen_dropout=false")
    read = trained("read", *settings, "train.frozen_dropout=false")
    expect_equal(read, plain)
    assert read[0]["frozen_layers"]["layers"] == 2
    assert read[0]["variant"] != record["variant"]
    assert any("dropout of the lowest 2 layers" in note for note in read[3])


def test_frozen_dropout_that_changes_nothing_is_told():
    for folder, settings in (("all", ["method=lora"]), ("none", ["method=lora", *upper("tiny_llama")])):
        *_, notes = trained(folder, *settings, "train.frozen_dropout=false", "train.max_steps=1")
        assert any("train.frozen_dropout=false changes nothing" in note for note in notes)


def test_steps_and_evaluations_do_not_call_frozen_layers(monkeypatch):
    settings = ["method=lora", *upper("tiny_llama"), "train.epochs=4"]
    trained("first", *settings)
    called, forward = [0] * 4, LlamaDecoderLayer.forward

    def counted(layer, *args, **kwargs):
        called[layer.self_attn.layer_idx] += 1
        return forward(layer, *args, **kwargs)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", counted)
    trained("second", *settings, "seed=1")
    steps = 4 * 32 // 8
    assert called[0] == called[1] <= called[2] - steps
    assert called[2] == called[3]


@pytest.mark.parametrize("base", ["fp32", "bf16"])
def test_half_precision_reads_what_it_would_compute(base):
    settings = ["method=lora", *upper("tiny_llama"), "hardware.precision=bf16", f"hardware.base={base}"]
    plain = trained("plain", *settings, "cache_gb=0")
    read = trained("read", *settings)
    assert read[0]["frozen_layers"]["layers"] == 2
    expect_equal(read, plain, most=2e-3)


def test_recomputed_activations_are_those_above_the_frozen_layers():
    settings = ["method=mola_inverted", *upper("tiny_llama"), "hardware.activation_checkpointing=true"]
    plain = trained("plain", *settings, "cache_gb=0")
    read = trained("read", *settings)
    assert read[0]["frozen_layers"]["layers"] == 2
    expect_equal(read, plain)


def test_stages_that_are_learned_in_turn_read():
    command = sequence("one", "two")
    settings = [*upper("tiny_llama"), "train.epochs=1", "train.max_steps=null"]
    records = []
    for folder, limit in (("plain", "cache_gb=0"), ("read", "cache_gb=1")):
        assert main([*command, *settings, limit, f"output_dir={folder}"]) == 0
        records.append(only_record(folder)[0])
    plain, read = records
    assert read["frozen_layers"]["layers"] == 2
    assert read["frozen_layers"]["rows_built"] == 2 * 8  # both splits of a stage are one file
    assert read["frozen_layers"]["rows_read"] > read["frozen_layers"]["rows_built"]
    assert read["training"]["mean_loss"] == pytest.approx(plain["training"]["mean_loss"], abs=1e-5)
    assert read["scores"]["matrix"] == plain["scores"]["matrix"]


def test_the_head_alone_reads_the_whole_body():
    plain = trained("plain", "method=head", "model=tiny_llama", "cache_gb=0")
    read = trained("read", "method=head", "model=tiny_llama")
    expect_equal(read, plain)
    assert read[0]["frozen_layers"]["layers"] == 4


def test_methods_and_seeds_that_share_a_prefix_build_it_once():
    settings = ["train.max_steps=null", "train.epochs=1", *upper("tiny_llama")]
    arms = ["method=lora", "method=mola_inverted", "method=peft/ia3"]
    built = [
        trained(f"{arm[-4:]}-{seed}", *settings, arm, f"seed={seed}")[0]["frozen_layers"]["rows_built"]
        for arm in arms
        for seed in range(3)
    ]
    assert built[0] > 0
    assert not any(built[1:])
    (entry,) = cached_prefixes.entries(Path("cache").resolve())
    assert entry.rows == built[0]


@pytest.mark.parametrize("change", ["model=tiny_qwen", "model.config.rms_norm_eps=0.1", "layers"])
def test_another_prefix_shares_nothing(change):
    trained("one", "method=lora", *upper("tiny_llama"), "train.max_steps=1")
    other = upper("tiny_llama", "3") if change == "layers" else [*upper("tiny_llama"), change]
    record, *_ = trained("other", "method=lora", *other, "train.max_steps=1")
    assert record["frozen_layers"]["rows_built"] > 0
    assert len(cached_prefixes.entries(Path("cache").resolve())) == 2


def test_a_model_that_trains_from_its_lowest_layer_on_has_no_prefix():
    for method in ("lora", "molex", "full"):
        record, *_ = trained(method, f"method={method}", "model=tiny_llama", "train.max_steps=1")
        assert not record["frozen_layers"]
    assert not Path("cache", cached_prefixes.FOLDER).exists()


def test_layers_that_mix_with_lower_ones_find_them_as_they_are():
    targets = "method.lora.targets=['.*layers\\.[23]\\..*']"
    settings = ["method=molex", "model=tiny_llama", targets, "method.layers=[2,3]", "method.alpha=0.6"]
    plain = trained("plain", *settings, "cache_gb=0")
    read = trained("read", *settings)
    expect_equal(read, plain)
    assert read[0]["frozen_layers"]["layers"] == 2
    assert read[0]["routing"] == plain[0]["routing"]


def test_padding_that_is_attended_to_keeps_the_frozen_layers_computed():
    targets = "method.lora.targets=['.*layers\\.[23]\\..*']"
    settings = ["method=molex", "model=tiny_llama", targets, "method.layers=[2,3]"]
    settings += ["method.voters=all", "method.attend_padding=true"]
    record, *_, notes = trained("run", *settings)
    assert record["frozen_layers"]["layers"] == 0
    assert any("method.attend_padding" in note for note in notes)


def test_a_router_that_counts_padding_keeps_the_frozen_layers_computed():
    record, *_, notes = trained("run", "method=mola_inverted", "method.count_padding=true", *upper("tiny_llama"))
    assert record["frozen_layers"]["layers"] == 0
    assert any("method.count_padding" in note for note in notes)


def test_accumulated_gradients_and_a_resumed_run_are_the_same(experiment):
    settings = ["method=mola_inverted", *upper("tiny_llama"), "train.gradient_accumulation_steps=3"]
    settings += ["train.max_steps=6", "train.evaluate_every=2", "train.batch_size=4"]
    whole = trained("whole", *settings, "cache_gb=0")
    resumed = interrupted(experiment, *SHORT, *settings, "output_dir=resumed", at=3)
    run(resumed)
    record, _ = only_record("resumed")
    assert record["frozen_layers"]["rows_built"] == 0
    found = trained("resumed", *settings)
    expect_equal(found, whole)
    expect_equal(found, trained("read", *settings), most=0)


QUESTION = """# Questions with three choices.
defaults: [/schema/task@_here_, _self_]
name: q
kind: multiple_choice
files: {train: rows.jsonl, validation: rows.jsonl}
columns: [q]
choices: choices
label: a
language: {prompt: "{q} It is", instruction: "{q} {options}", answer: "{answer}."}
"""
QUESTIONS = {
    "multiple choice by a head": ["task.answer_mode=head"],
    "multiple choice by likelihood": ["task.answer_mode=likelihood"],
    "texts": ["task.answer_mode=generate", "task.language.max_new_tokens=3"],
}


@pytest.mark.parametrize("answers", QUESTIONS)
def test_every_objective_reads(answers):
    rows = [
        {"q": f"which is {i}?", "choices": [f"it is {i}", f"{i} or so", "no"], "a": "ABC"[i % 3]} for i in range(24)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("mine/task").mkdir(parents=True)
    Path("mine/task/q.yaml").write_text(QUESTION)
    settings = ["-cd", "mine", "task=q", "method=lora", *upper("tiny_llama"), *QUESTIONS[answers]]
    plain = trained("plain", *settings, "cache_gb=0")
    read = trained("read", *settings)
    expect_equal(read, plain)
    assert read[0]["frozen_layers"]["layers"] == 2
    assert read[0]["frozen_layers"]["rows_read"] > 0
