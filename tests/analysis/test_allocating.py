"""Rules read what they say they read: each against a plain computation, on an encoder, GPT-2's and Llama's shapes."""

import copy
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.runs import only_record, working_in
from torch.nn import functional

from molex_cli.analysis import allocating
from molex_cli.analysis.allocating import frozen
from molex_cli.analysis.evidence import BaseEvidence
from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.config import schema
from molex_cli.cost.planning import labels_of, planned
from molex_cli.data import reading
from molex_cli.errors import ConfigError
from molex_cli.methods.allocation import Allocation
from molex_cli.methods.allocations.base import RULES
from molex_cli.models.structure import weight_oi
from molex_cli.objectives.base import on
from molex_cli.records import read_record, variant_id
from molex_cli.run import run
from molex_cli.statistics.power_law import exponent

MODELS = ["tiny_bert", "tiny_gpt2", "tiny_llama"]
ROWS = 12


@pytest.fixture(params=MODELS)
def evidence(request, experiment):
    return evidence_of(experiment(f"model={request.param}"))


def evidence_of(made, **settings):
    return BaseEvidence(made, Allocation(**{"rule": "gradient", "rows": ROWS, **settings}))


def read_rows(found):
    """Return the rows that are read, in file order, each as a batch of its own without padding."""
    return list(found._batches(1))


def close(one, other, tolerance=1e-5):
    assert len(one) == len(other)
    assert one == pytest.approx(other, rel=tolerance)


def gradients_by_hand(found, loss):
    """Return the gradient of a loss by layer and linear, [out, in], by backward on the whole model."""
    model = found._backbone.model
    for linear in found._backbone.linears():
        linear.module.weight.requires_grad_(True)
        linear.module.weight.grad = None
    loss(model).backward()
    layers = [[] for _ in range(found.num_layers)]
    for linear in found._backbone.linears():
        grad = linear.module.weight.grad
        layers[linear.layer].append(
            grad if weight_oi(linear.module).shape == grad.shape and not is_conv(linear) else grad.t()
        )
    return layers


def is_conv(linear):
    return type(linear.module).__name__ == "Conv1D"


def mean_loss(found):
    """Return the mean loss of the rows in one padded batch, in file order."""
    sample = found._sample
    pad = found._backbone.tokenizer.pad_token_id
    batch = on(found._device, sample.objective.batch(sample.encoded, range(len(sample.encoded.ids)), pad, 100))

    def loss(model):
        logits = model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits
        return functional.cross_entropy(logits, batch["labels"])

    return loss


def test_gradient_and_sensitivity_are_those_of_autograd_by_hand(evidence):
    gradient, sensitivity = (RULES[name].scores(evidence) for name in ("gradient", "sensitivity"))
    by_hand = gradients_by_hand(evidence, mean_loss(evidence))
    close(gradient, [torch.cat([g.flatten() for g in layer]).norm().item() for layer in by_hand], 1e-4)
    weights = [[] for _ in by_hand]
    for linear in evidence._backbone.linears():
        weights[linear.layer].append(weight_oi(linear.module).detach())
    pairs = zip(weights, by_hand, strict=True)
    products = [torch.cat([(w * g).flatten().abs() for w, g in zip(*pair, strict=True)]) for pair in pairs]
    close(sensitivity, [each.mean().item() for each in products], 1e-4)


def test_fisher_is_the_mean_square_of_the_gradients_of_single_rows(evidence):
    squares = None
    rows = read_rows(evidence)
    assert len(rows) == ROWS
    for row in rows:
        by_hand = gradients_by_hand(evidence, lambda model, row=row: model(**row).loss)
        own = [torch.cat([g.flatten() for g in layer]).square() for layer in by_hand]
        squares = own if squares is None else [a + b for a, b in zip(squares, own, strict=True)]
    expected = [float(each.mean()) / ROWS for each in squares]
    close(RULES["fisher"].scores(evidence), expected, 1e-4)


def test_similarity_is_one_less_the_mean_cosine_over_all_real_tokens(evidence):
    cosines = [[] for _ in range(evidence.num_layers)]
    for row in read_rows(evidence):
        row.pop("labels")
        states = evidence._backbone.model(**row, output_hidden_states=True).hidden_states
        for layer, (before, after) in enumerate(pairwise(states)):
            cosines[layer] += functional.cosine_similarity(before[0].double(), after[0].double(), dim=-1).tolist()
    found = RULES["similarity"].scores(evidence)
    # The last of transformers' hidden states has the model's final normalisation in it, where there is one.
    last = evidence.num_layers - (evidence.experiment.model.name != "tiny_bert")
    close(found[:last], [1 - float(np.mean(each)) for each in cosines][:last], 1e-6)  # cosines near 1
    assert all(score > 0 for score in found)


def test_spectral_is_the_mean_exponent_of_the_eigenvalues_to_the_power_of_two_and_a_half(evidence):
    exponents = [[] for _ in range(evidence.num_layers)]
    for linear in evidence._backbone.linears():
        weight = weight_oi(linear.module).detach().double()
        small = weight if len(weight) < weight.shape[1] else weight.t()
        exponents[linear.layer].append(exponent(torch.linalg.eigvalsh(small @ small.t()).cpu().numpy()))
    close(RULES["spectral"].scores(evidence), [float(np.mean(each)) ** 2.5 for each in exponents], 1e-3)


def test_probe_is_what_a_layer_gains_on_rows_that_its_probe_was_not_fitted_to(evidence):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    evidence.allocation = replace(evidence.allocation, rows=40)
    sample, states = evidence._sample, []
    for i in range(40):
        row = on(evidence._device, sample.objective.batch(sample.encoded, [i], 0, None))
        row.pop("labels")
        hidden = evidence._backbone.model(**row, output_hidden_states=True).hidden_states
        states.append([each[0].mean(0).detach().cpu().numpy() for each in hidden])
    features, labels, part = np.array(states), np.array(sample.encoded.labels), np.arange(40) % 4
    scores = []
    for layer in range(evidence.num_layers):  # the input, and all outputs but the last
        right = 0
        for held in range(4):
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(features[part != held, layer], labels[part != held])
            right += (model.predict(features[part == held, layer]) == labels[part == held]).sum()
        scores.append(right / 40)
    expected = [max(0.0, above - below) for below, above in pairwise(scores)]
    assert RULES["probe"].scores(evidence)[: len(expected)] == pytest.approx(expected, abs=0.051)  # two rows of 40


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if name not in ("knockout", "probe")])
@pytest.mark.parametrize("model", MODELS)
def test_batches_padding_and_the_seed_of_the_run_change_nothing(rule, model, experiment, monkeypatch):
    base = f"model={model}"
    first = RULES[rule].scores(evidence_of(experiment(base)))
    monkeypatch.setattr("molex_cli.analysis.evidence.BATCH", 5)
    monkeypatch.setattr("molex_cli.analysis.evidence.scoring_order", lambda lengths, size: in_any_order(lengths, size))
    other = evidence_of(experiment(base, "seed=7", "train.batch_size=3"))
    close(RULES[rule].scores(other), first, 1e-3)
    assert RULES[rule].scores(evidence_of(experiment(base))) == RULES[rule].scores(evidence_of(experiment(base)))


def in_any_order(lengths, size):
    rows = random.Random(1).sample(range(len(lengths)), len(lengths))
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def test_training_rows_alone_are_read_and_none_of_those_set_apart(experiment, monkeypatch):
    made = experiment("train.selection=0.25")
    found = evidence_of(made, rows=1000)
    ids = set(found._sample.encoded.ids)
    splits, _ = reading.read_all(made)[""]
    assert ids == set(splits["train"].ids)
    assert not ids & set(splits["selection"].ids)
    assert all(key.startswith("train:") for key in ids)
    few, others = (set(evidence_of(made, seed=seed)._sample.encoded.ids) for seed in (0, 1))
    assert len(few) == len(others) == ROWS
    assert few != others


def test_a_language_model_is_read_by_the_loss_that_it_trains_with(experiment):
    rows = [{"text": "word " * (1 + i % 5), "answer": "yes " * (1 + i % 3)} for i in range(20)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = "task.files={train: rows.jsonl, validation: rows.jsonl}"
    own = [
        "task.kind=generation",
        "task.columns=[text]",
        "task.label=answer",
        "task.metrics=[bleu]",
        "task.language.prompt='{text}'",
    ]
    found = evidence_of(experiment("model=tiny_llama", "task=files", files, *own))
    scores = RULES["gradient"].scores(found)
    sample, total = found._sample, 0
    summed = None
    for row in read_rows(found):
        weight = sample.objective.weight(row)
        by_hand = gradients_by_hand(found, lambda model, row=row: sample.objective.loss(model, row))
        own = [torch.cat([g.flatten() for g in layer]) * weight for layer in by_hand]
        summed = own if summed is None else [a + b for a, b in zip(summed, own, strict=True)]
        total += weight
    close(scores, [float(each.norm()) / total for each in summed], 1e-4)


def test_only_linears_that_the_method_adapts_are_read(experiment):
    found = evidence_of(experiment("method=lora", "method.targets=[query,value]"))
    assert [len(layer) for layer in found.weights()] == [2, 2, 2, 2]


RULE = ["method.allocation.rule=gradient", "method.allocation.rows=12", "method.allocation.total=14"]


@pytest.mark.parametrize("method", ["mola", "lora"])
def test_counts_are_frozen_into_the_settings_and_the_plan_is_the_built_model(experiment, method, capsys):
    made = experiment(f"method={method}", *(["method.clip_top_k=true"] if method == "mola" else []), *RULE)
    before = copy.deepcopy(made)
    found = frozen(made)
    allocation = found.method.allocation
    assert made == before
    assert sum(allocation.layers) == 14
    assert len(allocation.scores) == 4
    assert frozen(found) is found
    adapted = adapter.adapt(found, ["no", "yes"])
    plan = planned(made, labels_of(made))
    assert plan.parameters["trainable"] == sum(p.numel() for p in adapted.trainable().values())
    per_layer = plan.experts_per_layer or [rank // 8 for rank in plan.rank_per_layer]
    assert per_layer == allocation.layers


def test_the_frozen_settings_are_one_variant_for_all_seeds_whatever_the_last_digits_of_scores(experiment):
    ids = {variant_id(schema.as_data(frozen(experiment("method=lora", *RULE, f"seed={seed}")))) for seed in (0, 1)}
    assert len(ids) == 1
    found = frozen(experiment("method=lora", *RULE))
    nudged = copy.deepcopy(found)
    nudged.method.allocation.scores[0] *= 1.00001
    assert variant_id(schema.as_data(nudged)) in ids
    nudged.method.allocation.layers = nudged.method.allocation.layers[::-1]
    assert variant_id(schema.as_data(nudged)) not in ids


def test_a_rule_is_computed_once_for_jobs_that_read_the_same(experiment, monkeypatch, capsys):
    computed = []
    monkeypatch.setattr(allocating, "_FOUND", {})
    monkeypatch.setattr(allocating, "_TOLD", set())
    scores = RULES["similarity"].scores
    monkeypatch.setitem(
        RULES, "similarity", replace(RULES["similarity"], scores=lambda e: computed.append(1) or scores(e))
    )
    own = ["method=lora", "method.allocation.rule=similarity", "method.allocation.rows=9"]
    for further in (["seed=0"], ["seed=1"], ["train.learning_rate=0.01"], ["method.allocation.mean=3"]):
        frozen(experiment(*own, *further))
    assert len(computed) == 1
    frozen(experiment(*own, "method.allocation.seed=1"))
    assert len(computed) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines))
    assert "rule=similarity gives" in lines[0]
    assert lines[0].endswith("from 9 of 64 training rows")


def test_fewer_rows_than_asked_for_are_told_and_recorded(experiment, capsys):
    found = frozen(experiment("method=lora", "method.allocation.rule=similarity"))
    assert found.method.allocation.rows == 64
    assert capsys.readouterr().err.rstrip().endswith("from all 64 training rows")


def test_what_the_counts_do_not_fit_is_one_line_that_names_them(experiment):
    with pytest.raises(ConfigError) as error:
        frozen(experiment("method=mola", *RULE, "method.allocation.total=5", "method.allocation.min=1"))
    (line,) = str(error.value).splitlines()
    assert "method.top_k must not exceed any layer's experts" in line
    assert "(rule=gradient gives [" in line


def test_a_run_with_a_rule_resumes_and_its_second_seed_is_of_the_same_variant(monkeypatch, capsys):
    settings = ["train", "experiment=smoke", "method=mola", "method.clip_top_k=true", *RULE, "output_dir=runs"]
    with monkeypatch.context() as patched:
        patched.setattr("molex_cli.training.single_task._finish", interrupted)
        assert main(settings) == 130
    monkeypatch.setattr(allocating, "_FOUND", {})
    assert main(settings) == 0
    record, folder = only_record("runs")
    assert [attempt["status"] for attempt in record["attempts"]] == ["interrupted"]
    allocation = record["settings"]["method"]["allocation"]
    assert allocation["rule"] == "gradient"
    assert allocation["rows"] == 12
    assert allocation["layers"] == record["experts_per_layer"]
    assert len(allocation["scores"]) == 4
    assert main([*settings, "seed=1"]) == 0
    records = [read_record(path) for path in Path("runs").glob("*-s[01]")]
    assert len({each.variant for each in records}) == 1
    assert len(records) == 2
    assert len({tuple(each.experts_per_layer) for each in records}) == 1
    capsys.readouterr()
    assert main(settings) == 0
    assert "finished before" in capsys.readouterr().out
    shutil.rmtree("cache", ignore_errors=True)
    assert main(["eval", f"run={folder}"]) == 0


def interrupted(*_):
    raise KeyboardInterrupt


def test_processes_that_torchrun_started_agree_on_the_counts():
    settings = ["experiment=smoke", "method=lora", *RULE, "output_dir=runs", "hardware.threads=1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, "-m", "molex_cli", "train", *settings], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    record, _ = only_record("runs")
    assert main(["train", *settings, "output_dir=alone"]) == 0
    alone, _ = only_record("alone")
    assert record["variant"] == alone["variant"]
    assert record["rank_per_layer"] == alone["rank_per_layer"]
    assert record["training"]["processes"] == 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run of another shape."""
    made = tmp_path_factory.mktemp("knockout")
    with working_in(made):
        settings = ["experiment=smoke", "method=mola_inverted", "train.learning_rate=0.02", "train.max_steps=40"]
        assert main(["train", *settings, "train.epochs=20", "output_dir=runs"]) == 0
        (folder,) = (made / "runs").glob("*/record.json")
    return folder.parent


def test_knockout_is_what_the_loss_rises_by_without_a_layers_experts(finished, experiment):
    found = evidence_of(experiment(), rule="knockout", from_run=str(finished), rows=20)
    scores = RULES["knockout"].scores(found)
    _, adapted = adapter.load(finished / "adapter-last.safetensors")
    adapted.model.eval()
    splits, _ = reading.read_all(experiment())[""]
    split = found._drawn(splits["train"], RULES["knockout"].needs)
    tokens = adapted.backbone.tokenizer(
        *map(list, zip(*split.texts, strict=True)), padding=True, truncation=True, max_length=64, return_tensors="pt"
    )

    def loss():
        with torch.no_grad():
            return float(functional.cross_entropy(adapted.model(**tokens).logits, torch.tensor(split.labels)))

    whole, expected = loss(), []
    layers = schema.from_data("mola", read_record(finished).settings).method.experts(adapted)
    for layer in range(4):
        with layers[layer].without(None):
            expected.append(max(0.0, loss() - whole))
    assert scores == pytest.approx(expected, abs=1e-5)
    assert any(scores)


def test_the_run_of_a_knockout_may_lie_in_the_home_folder(finished, experiment, monkeypatch):
    monkeypatch.setenv("HOME", str(finished.parent))
    found = evidence_of(experiment(), rule="knockout", from_run=f"~/{finished.name}", rows=8)
    assert len(RULES["knockout"].scores(found)) == 4


def test_a_knockout_of_a_run_without_anything_to_leave_out_is_one_line(experiment):
    assert main(["train", "experiment=smoke", "method=bitfit", "output_dir=runs"]) == 0
    _, folder = only_record("runs")
    with pytest.raises(ConfigError) as error:
        frozen(experiment("method=lora", "method.allocation.rule=knockout", f"method.allocation.from_run={folder}"))
    (line,) = str(error.value).splitlines()
    assert line.startswith("method.allocation.from_run must be a run of a method with experts, low-rank updates")
    assert line.endswith("of method=bitfit")


@pytest.mark.parametrize("method", ["mola", "lora", "mixlora"])
def test_a_run_after_a_rule_is_to_the_bit_that_of_the_same_counts_typed(experiment, monkeypatch, method):
    monkeypatch.setattr(allocating, "_FOUND", {})
    own = [f"method={method}", *([] if method == "lora" else ["method.clip_top_k=true"])]
    ruled = run(experiment(*own, *RULE, "output_dir=ruled"))
    layers = ",".join(map(str, ruled.settings["method"]["allocation"]["layers"]))
    typed = run(experiment(*own, f"method.allocation.layers=[{layers}]", "output_dir=typed"))
    assert ruled.scores["last"] == typed.scores["last"]
    (one,), (other,) = (list(Path(name).glob("*/adapter-last.safetensors")) for name in ("ruled", "typed"))
    one, other = load_file(one), load_file(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_run_of_a_knockout_is_known_by_its_name_wherever_it_lies(finished, experiment, tmp_path):
    shutil.copytree(finished, tmp_path / "moved" / finished.name)
    own = ["method=lora", "method.allocation.rule=knockout", "method.allocation.rows=20"]
    ids = {
        variant_id(schema.as_data(frozen(experiment(*own, f"method.allocation.from_run={folder}"))))
        for folder in (finished, tmp_path / "moved" / finished.name)
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("gone", "must be the folder of a finished run, got"),
        ("unfinished", "must be a run that has finished, got"),
        ("deeper", "must be a run of 3 layers, got"),
        ("no adapter", "must hold the last adapter of its run, got"),
        ("empty layers", "must have experts in every layer, got"),
    ],
)
def test_a_run_that_cannot_be_measured_is_one_line(finished, experiment, tmp_path, damage, said):
    folder = tmp_path / "run"
    made = experiment("method=lora", "method.allocation.rule=knockout", f"method.allocation.from_run={folder}")
    if damage != "gone":
        shutil.copytree(finished, folder)
        record = json.loads((folder / "record.json").read_text())
        record["status"] = "interrupted" if damage == "unfinished" else "finished"
        record["experts_per_layer"] = [0, 2, 4, 6] if damage == "empty layers" else [2, 4, 6, 8]
        (folder / "record.json").write_text(json.dumps(record))
    if damage == "no adapter":
        (folder / "adapter-last.safetensors").unlink()
    if damage == "deeper":
        made.model = replace(made.model, config={**made.model.config, "num_hidden_layers": 3})
    with pytest.raises(ConfigError) as error:
        frozen(made)
    (line,) = str(error.value).splitlines()
    assert line.startswith("method.allocation.from_run ")
    assert said in line


def test_a_rule_that_reads_rows_says_that_there_are_none(capsys):
    own = ["experiment=smoke", "method=lora", "task=glue/rte", "data_dir=nowhere"]
    assert main(["train", *own]) == 2
    without = capsys.readouterr().err
    assert main(["train", *own, "method.allocation.rule=gradient"]) == 2
    assert capsys.readouterr().err == without
    assert "data_dir must be a folder with glue/RTE/train.tsv" in without


def test_scores_of_zero_alone_are_one_line(experiment, monkeypatch, capsys):
    monkeypatch.setitem(RULES, "similarity", replace(RULES["similarity"], scores=lambda evidence: [0.0] * 4))
    assert (
        main(
            [
                "train",
                "experiment=smoke",
                "method=lora",
                "method.allocation.rule=similarity",
                "method.allocation.rows=5",
            ]
        )
        == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert "rule=similarity must give some layer a score above 0" in line


def test_a_run_started_from_python_has_its_counts_too(experiment):
    record = run(experiment("method=lora", *RULE, "output_dir=runs"))
    assert [rank // 8 for rank in record.rank_per_layer] == record.settings["method"]["allocation"]["layers"]
