"""LoRA equals PEFT's LoRA for the same weights, outputs and gradients; PEFT's own tuners train here as methods."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import batch

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.methods.ledger import ledger
from molex_cli.models.loading import load

peft = pytest.importorskip("peft")


@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
def test_lora_equals_pefts_lora(experiment, model, rslora):
    scaling = f"method.scaling=alpha_over_{'root_' if rslora else ''}rank"
    plain = ["method.rank=4", "method.alpha=12", "method.dropout=0", scaling]
    settings = experiment("method=lora", f"model={model}", *plain)
    ours = adapter.adapt(settings, ["no", "yes"])
    backbone = load(settings.model, 2, seed=0)
    names = [linear.name for linear in backbone.targets(["all-linear"])]
    config = peft.LoraConfig(
        r=4,
        lora_alpha=12,
        lora_dropout=0.0,
        use_rslora=rslora,
        target_modules=names,
        task_type="SEQ_CLS",
        fan_in_fan_out=model == "tiny_gpt2",
    )
    theirs = peft.get_peft_model(backbone.model, config)
    modules = {name: (ours.model.get_submodule(name), theirs.base_model.model.get_submodule(name)) for name in names}
    with torch.no_grad():
        for mine, other in modules.values():
            mine.up.normal_(std=0.1)
            other.lora_A["default"].weight.copy_(mine.down[0])
            other.lora_B["default"].weight.copy_(mine.up[0].t())
    data = batch(num_rows=4, length=16)
    ours.model.eval()
    theirs.eval()
    our_output, their_output = ours.model(**data), theirs(**data)
    torch.testing.assert_close(our_output.logits, their_output.logits, atol=1e-5, rtol=1e-5)
    our_output.loss.backward()
    their_output.loss.backward()
    for mine, other in modules.values():
        torch.testing.assert_close(mine.down.grad[0], other.lora_A["default"].weight.grad, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mine.up.grad[0].t(), other.lora_B["default"].weight.grad, atol=1e-5, rtol=1e-4)


TUNERS = ["dora", "ia3", "vera", "loha", "lokr", "oft"]


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama"])
@pytest.mark.parametrize("tuner", TUNERS)
def test_the_ledger_counts_what_peft_counts(experiment, tuner, model):
    settings = experiment(f"method=peft/{tuner}", f"model={model}")
    counts = ledger(adapter.adapt(settings, ["no", "yes"]), 64).parameters
    backbone = load(settings.model, 2, seed=0)
    config = settings.method.peft_config(backbone.targets(settings.method.targets))
    trained, total = peft.get_peft_model(backbone.model, config).get_nb_trainable_parameters()
    assert (counts["adapters"], counts["added"]) == (trained, trained)
    assert counts["trainable"] == trained + counts["head"]
    assert counts["total"] == total


def test_flops_of_a_tuner_are_those_of_its_matrix_products(experiment):
    def added(*settings):
        made = adapter.adapt(experiment(*settings, "method.targets=[query]"), ["no", "yes"])
        flops = ledger(made, 64).flops_per_token
        return flops["base"], flops["active"] - flops["base"]

    base, lora = added("method=lora", "method.rank=8")
    # The norm of DoRA's weight is the same for any number of tokens; under dropout W x is computed twice.
    assert added("method=peft/dora", "method.config.lora_dropout=0") == (base, lora)
    assert added("method=peft/dora") == (base, lora + 4 * 2 * 32 * 32)
    assert added("method=peft/ia3", "method.config.feedforward_modules=[]") == (base, 0)
    assert added("method=peft/loha") == (base, 4 * 2 * 32 * 32)  # a second product with a whole weight


def test_five_tuners_train_on_the_built_in_task_and_leave_records_that_reload(capsys):
    short = ["experiment=smoke", "hardware.threads=1"]
    for tuner in TUNERS[:5]:
        assert main(["train", *short, f"method=peft/{tuner}"]) == 0, capsys.readouterr().err
    records = [json.loads(path.read_text()) for path in Path("outputs").glob("*/record.json")]
    assert {record["settings"]["method"]["name"] for record in records} == {f"peft/{tuner}" for tuner in TUNERS[:5]}
    for record in records:
        assert record["status"] == "finished"
        assert record["checks"]["gradient_flow"]["passed"]
        assert record["checks"]["reload"]["passed"]
        assert record["training"]["steps"] == 4
    capsys.readouterr()
    folder = next(Path("outputs").glob("*peft-vera*"))
    assert main(["eval", "--json", f"run={folder}", "hardware=cpu", "train.max_rows=64"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    record = json.loads((folder / "record.json").read_text())
    assert result["scores"] == record["scores"]["last"]["scores"]
    assert main(["compare", "outputs"]) == 0
    assert "DoRA" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["method=peft/dora", "method.kind=lra"], "method.kind must be one of ia3, loha, "),
        (["method=peft/dora", "method.config.target_modules=[query]"], "method.config.target_modules must be left out"),
        (["method=peft/dora", "method.config.lora_alfa=4"], "is no setting of LoraConfig; did you mean lora_alpha?"),
        (
            ["method=peft/dora", "method.config.r=0"],
            "peft/dora and method.config must fit tiny_bert, got: `r` should be a positive",
        ),
        (
            ["method=peft/loha", "model=tiny_gpt2"],
            "peft/loha and method.config must fit tiny_gpt2, got: Target module of type",
        ),
        (["method=peft/dora", "method.targets=[]"], "method.targets must name at least one linear, got []"),
    ],
)
def test_settings_that_peft_cannot_take_are_one_line(capsys, settings, said):
    assert main(["plan", "model=tiny_bert", *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_mistake_in_the_settings_of_a_tuner_imports_no_torch(tmp_path):
    code = (
        "import sys; from molex_cli.cli import main; assert main(['train', 'method=peft/dora', 'method.kind=x']) == 2; "
        "assert not {'torch', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
