"""How a model lies on its device changes its memory and speed, not what it learns."""

import functools
import json
from pathlib import Path

import pytest
import torch
from conftest import batch

from molex_cli.cli import main
from molex_cli.methods import placement
from molex_cli.runtime import hardware
from molex_cli.runtime.hardware import Base, Device, Hardware, Precision

CPU = Hardware(device=Device.cpu)


def losses(folder):
    (path,) = Path(folder).glob("*/events.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [(event["loss"], event.get("balance_loss")) for event in events if event["event"] in ("step", "evaluated")]


@pytest.mark.parametrize("method", ["lora", "mola_inverted", "mixlora", "molex"])
def test_activation_checkpointing_changes_no_loss_with_dropout_on(method):
    settings = ["train", "experiment=smoke", f"method={method}", "train.gradient_accumulation_steps=2"]
    assert main([*settings, "output_dir=plain"]) == 0
    assert main([*settings, "output_dir=again", "hardware.activation_checkpointing=true"]) == 0
    assert losses("again") == losses("plain")


@pytest.mark.parametrize("method", ["mola_inverted", "mixlora", "molex", "bitfit", "full"])
def test_a_base_in_bf16_leaves_what_is_trained_in_float32(adapted, method):
    made = adapted(f"method={method}")
    settings = Hardware(device=Device.cpu, precision=Precision.bf16, base=Base.bf16)
    placement.place(made, settings, hardware.accelerator(settings))
    trained = {id(parameter) for parameter in made.trainable().values()}
    for name, parameter in made.model.named_parameters():
        expected = torch.float32 if id(parameter) in trained or parameter.ndim == 1 else torch.bfloat16
        assert parameter.dtype is expected, name
    assert main(["train", "experiment=smoke", f"method={method}", "hardware.precision=bf16", "hardware.base=bf16"]) == 0
    (path,) = Path("outputs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["checks"]["reload"]["passed"]
    assert record["checks"]["gradient_flow"]["passed"] is True


def test_a_base_below_fp32_needs_bf16_arithmetic(capsys):
    assert main(["train", "experiment=smoke", "hardware.base=bf16"]) == 2
    assert "hardware.base must be fp32 with precision=fp32, got bf16" in capsys.readouterr().err


def test_a_base_in_four_bits_keeps_the_counts_and_the_method_as_they_are(monkeypatch):
    pytest.importorskip("bitsandbytes")
    wide = ["model.config.hidden_size=128", "model.config.intermediate_size=256"]
    small = ["train", "experiment=smoke", "method=mola_inverted", *wide]
    assert main([*small, "output_dir=plain"]) == 0
    assert main([*small, "output_dir=small", "hardware.precision=bf16", "hardware.base=nf4"]) == 0
    records = [json.loads(next(Path(each).glob("*/record.json")).read_text()) for each in ("plain", "small")]
    assert records[0]["parameters"] == records[1]["parameters"]
    assert records[1]["checks"]["reload"]["passed"]
    assert records[1]["checks"]["gradient_flow"]["passed"] is True
    ((first, _), *_), ((other, _), *_) = losses("plain"), losses("small")
    assert first == pytest.approx(other, abs=0.05)


def test_four_bits_without_their_library_are_refused_with_the_way_to_get_it(adapted, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.nn", None)
    settings = Hardware(device=Device.cpu, precision=Precision.bf16, base=Base.nf4)
    with pytest.raises(Exception, match=r"must have bitsandbytes, got none; pip install .*\[quantized\]'"):
        placement.place(adapted("method=lora"), settings, hardware.accelerator(CPU))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile looks at it while it traces
@pytest.mark.parametrize("method", ["lora", "mola_inverted", "mixlora"])
def test_the_compiled_forward_pass_is_one_graph_with_the_gradients_of_the_plain_one(adapted, monkeypatch, method):
    whole = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", whole)
    settings = Hardware(device=Device.cpu, compile=True)
    plain, compiled = (adapted(f"method={method}", "method.dropout=0", "model.dropout=0") for _ in range(2))
    for made in (plain, compiled):
        torch.manual_seed(0)
        for name, parameter in made.trainable().items():
            if name.endswith(".up"):  # B's are zero, and would hide the gradients of A's and routers
                torch.nn.init.normal_(parameter, std=0.02)
    placement.place(compiled, settings, hardware.accelerator(settings))
    for length in (6, 9):  # the second is compiled for any length
        losses = []
        for made in (plain, compiled):
            loss = made.model(**batch(num_rows=2, length=length)).loss
            balance = made.auxiliary_loss()
            loss = loss if balance is None else loss + balance
            loss.backward()
            losses.append(float(loss.detach()))
        assert losses[0] == losses[1]
    for (name, one), (_, other) in zip(plain.trainable().items(), compiled.trainable().items(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-8)
        assert one.grad.any(), name
    assert plain.take_routing() == compiled.take_routing()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile looks at it while it traces
@pytest.mark.parametrize("method", ["lora", "mola_inverted", "mixlora", "molex"])
def test_a_compiled_model_learns_what_a_plain_one_does(method):
    no_dropout = "method.lora.dropout=0" if method == "molex" else "method.dropout=0"
    settings = ["train", "experiment=smoke", f"method={method}", "model.dropout=0", no_dropout]
    assert main([*settings, "output_dir=plain"]) == 0
    assert main([*settings, "output_dir=compiled", "hardware.compile=true"]) == 0
    for (one, _), (other, _) in zip(losses("plain"), losses("compiled"), strict=True):
        assert other == pytest.approx(one, abs=1e-4)
