"""Layers without experts are left as they are, and everything that reads a run works with them."""

import json
from pathlib import Path

import pytest
import torch
from conftest import batch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.runs import interrupted, only_record, outcome, sequence

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.methods.ledger import ledger
from molex_cli.methods.placement import place
from molex_cli.models.loading import load, skeleton
from molex_cli.objectives.base import on
from molex_cli.run import run
from molex_cli.runtime.hardware import accelerator

ZEROS = ["method=mola", "method.allocation.layers=[0,0,2,3]"]
MIXED = ["method=mixlora", "method.allocation.layers=[0,0,2,3]"]
MODELS = ("tiny_bert", "tiny_gpt2", "tiny_llama")
every_model = pytest.mark.parametrize("model", MODELS)
counts = st.lists(st.integers(0, 4), min_size=1, max_size=8).filter(any)


def steps(made, number=3):
    adam = torch.optim.AdamW(list(made.trainable().values()), lr=1e-2)
    made.model.train()
    for seed in range(number):
        loss, balance = made.model(**batch(num_rows=4, length=12, seed=seed)).loss, made.auxiliary_loss()
        (loss if balance is None else loss + made.balance * balance).backward()
        adam.step()
        adam.zero_grad()


@every_model
@pytest.mark.parametrize("method", [ZEROS, MIXED], ids=["mola", "mixlora"])
def test_a_layer_without_experts_is_the_bases_own_and_stays_so_to_the_bit(experiment, model, method):
    chosen = experiment(*method, f"model={model}")
    plain = load(chosen.model, 2, chosen.seed)
    made = adapter.adapt(chosen, ["no", "yes"])
    steps(made)
    for layer in (0, 1):
        ours, theirs = made.backbone.blocks[layer], plain.blocks[layer]
        assert [(n, type(m)) for n, m in ours.named_modules()] == [(n, type(m)) for n, m in theirs.named_modules()]
        trained, base = ours.state_dict(), theirs.state_dict()
        assert trained.keys() == base.keys()
        assert all(torch.equal(trained[name], base[name]) for name in base)
    assert sorted(made.routers) == [2, 3]
    assert sorted(made.take_routing()) == ["2", "3"]


@every_model
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize(
    "method",
    [ZEROS, MIXED, ["method=lora", "method.allocation.layers=[0,0,1,3]"]],
    ids=["mola", "mixlora", "lora"],
)
def test_below_the_lowest_experts_nothing_is_computed_backward(experiment, model, checkpointing, method):
    chosen = experiment(*method, f"model={model}", f"hardware.activation_checkpointing={checkpointing}")
    made = adapter.adapt(chosen, ["no", "yes"])
    place(made, chosen.hardware, accelerator(chosen.hardware))
    outputs = {}

    def note(layer):
        def hook(module, args, output):
            outputs.setdefault(layer, output[0] if isinstance(output, tuple) else output)

        return hook

    for layer, block in enumerate(made.backbone.blocks):
        block.register_forward_hook(note(layer))
    made.model.train()
    loss = made.model(**on(made.model.device, batch())).loss
    assert [outputs[layer].requires_grad for layer in range(4)] == [False, False, True, True]
    loss.backward()
    assert all(p.grad is not None for p in made.trainable().values())


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=counts, method=st.sampled_from(["mola", "mixlora", "lora"]), model=st.sampled_from(MODELS))
def test_for_any_counts_the_plan_equals_the_built_model(experiment, layers, method, model):
    depth = {"tiny_gpt2": "n_layer"}.get(model, "num_hidden_layers")
    settings = [f"model={model}", f"model.config.{depth}={len(layers)}", f"method.allocation.layers={layers}"]
    clipped = [] if method == "lora" else ["method.clip_top_k=true"]
    chosen = experiment(f"method={method}", *settings, *clipped)
    made = adapter.adapt(chosen, ["no", "yes"])
    planned = ledger(chosen.method.inject(skeleton(chosen.model, 2)), 64)
    assert planned == ledger(made, 64)
    assert planned.parameters["trainable"] == sum(p.numel() for p in made.model.parameters() if p.requires_grad)
    plain = load(chosen.model, 2, chosen.seed)
    base, of_layer = sum(p.numel() for p in plain.model.parameters()), []
    for ours, theirs in zip(made.backbone.blocks, plain.blocks, strict=True):
        of_layer.append(sum(p.numel() for p in ours.parameters()) - sum(p.numel() for p in theirs.parameters()))
    assert [size > 0 for size in of_layer] == [count > 0 for count in layers]
    assert planned.parameters["added"] == sum(of_layer) == planned.parameters["total"] - base
    data = batch()
    torch.testing.assert_close(
        made.model.eval()(**data).logits, plain.model.eval()(**data).logits, atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("method", [ZEROS, MIXED], ids=["mola", "mixlora"])
def test_a_run_with_layers_without_experts_is_recorded_resumed_scored_and_read(
    experiment, tmp_path, monkeypatch, capsys, method
):
    chosen = [*method, "train.max_steps=6", "train.evaluate_every=2", "checkpoint_every=1"]
    for name in ("alone", "interrupted"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "interrupted")
    run(interrupted(experiment, *chosen, at=5))
    monkeypatch.chdir(tmp_path / "alone")
    record = run(experiment(*chosen))
    assert outcome(tmp_path / "interrupted") == outcome(tmp_path / "alone")
    assert record.status == "finished"
    assert record.checks["reload"]["passed"]
    assert record.checks["gradient_flow"]["passed"]
    assert record.experts_per_layer == [0, 0, 2, 3]
    assert sorted(record.routing) == ["2", "3"]
    _, folder = only_record()
    capsys.readouterr()
    assert main(["experts", str(folder), "--json", "--start", "--ablate", "experts", "--plots", "drawn"]) == 0
    told = capsys.readouterr().out
    (found,) = json.loads(told[told.index("[\n") :])
    assert found["experts_per_layer"] == [0, 0, 2, 3]
    assert {each["layer"] for each in found["linears"]} == {2, 3}
    parts = [(each["layer"], each["expert"]) for each in found["ablation"]["without"]]
    assert parts == [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert len(list(Path("drawn").iterdir())) == 6
    assert main(["experts", str(folder), "--ablate", "layers"]) == 0
    assert main(["probe", f"run={folder}", "train.max_rows=16"]) == 0
    assert main(["eval", f"run={folder}", "train.max_rows=8"]) == 0
    assert main(["compare", "outputs", "--html", "report.html"]) == 0
    assert "share of the routing x number of experts" in Path("report.html").read_text()
    for command in ("merge", "export"):
        assert main([command, str(folder), "--output", "out"]) == 2


def test_one_layer_of_experts_has_no_trend_over_the_depth(experiment, capsys):
    run(experiment("method=mola", "method.allocation.layers=[0,0,4,0]", "train.max_steps=1"))
    _, folder = only_record()
    capsys.readouterr()
    assert main(["experts", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "mean cosine" in told
    assert "nan" not in told
    assert "Spearman" not in told


@pytest.mark.parametrize("method", [ZEROS, MIXED], ids=["mola", "mixlora"])
@pytest.mark.parametrize("router", ["random", "uniform", "fixed"])
def test_controls_leave_layers_without_experts_alone_too(experiment, router, method):
    joint = ["model=tiny_gpt2", "method.joint_parts=[query,value]"]
    made = adapter.adapt(experiment(*method, *joint, f"method.router={router}"), ["no", "yes"])
    steps(made)
    assert sorted(made.take_routing()) == ["2", "3"]
    assert {int(name.split(".h.")[1][0]) for name in made.trainable() if ".h." in name} == {2, 3}


def test_stages_are_learned_with_layers_without_experts():
    command = sequence("one", "two")
    changed = ["method=mola", "method.allocation.bands=[0,3]", "train.max_steps=2"]
    assert main([*(each for each in command if each != "method=lora"), *changed]) == 0
    record, _ = only_record()
    assert record["experts_per_layer"] == [0, 0, 3, 3]
    assert sorted(record["routing"]) == ["2", "3"]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["method=mola", "method.allocation.layers=[0,0,0,0]"], ".allocation.layers must give some layer an expert"),
        (["method=mola", "method.allocation.mean=0.1", "method.allocation.min=0"], "got a total of 0; the nearest"),
        (["method=lora", "method.allocation.bands=[0]"], "method.allocation.bands must give some layer an expert"),
        (["method=mola", "method.allocation.layers=[0,1,2,2]"], "got 2 with 1 in layer 1; set method.clip_top_k=true"),
        (
            [*ZEROS, r"method.targets=['.*layer\.[01]\..*']"],
            "method.targets must match linears of a layer that the allocation gives experts, got",
        ),
    ],
    ids=["layers", "mean", "lora", "top_k", "targets"],
)
def test_what_would_train_nothing_is_one_line(capsys, chosen, said):
    assert main(["plan", "experiment=smoke", *chosen]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
