"""LoRA equals PEFT's LoRA for the same weights, outputs and gradients."""

import pytest
import torch
from conftest import batch

from molex_cli import checkpoint
from molex_cli.backbones.loading import load

peft = pytest.importorskip("peft")


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
def test_lora_equals_pefts_lora(experiment, model):
    settings = experiment("method=lora", f"model={model}", "method.rank=4", "method.alpha=12", "method.dropout=0")
    ours = checkpoint.adapt(settings, ["no", "yes"])
    backbone = load(settings.model, 2, seed=0)
    names = [linear.name for linear in backbone.targets(["all-linear"])]
    config = peft.LoraConfig(
        r=4,
        lora_alpha=12,
        lora_dropout=0.0,
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
