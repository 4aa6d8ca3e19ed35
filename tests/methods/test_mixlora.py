"""MixLoRA in whole models: one router for each feed-forward network, whose experts are whole networks."""

import json
from pathlib import Path

import pytest
import torch
from conftest import TINY_MODELS, batch
from support.runs import only_record
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from molex_cli.cli import main
from molex_cli.errors import MethodError
from molex_cli.layers.experts import LowRankExperts
from molex_cli.layers.reference import LoopFeedForward
from molex_cli.methods.allocation import Allocation
from molex_cli.methods.ledger import ledger
from molex_cli.methods.low_rank import low_rank_modules
from molex_cli.methods.mixlora import MixLoRA
from molex_cli.models.loading import skeleton
from molex_cli.models.structure import Backbone
from molex_cli.run import run

LAYERS = "method.allocation.layers=[0,2,3,5]"
SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
FAMILIES = {
    "llama": {}, "mistral": {}, "gemma": {"head_dim": 8}, "gemma2": {"head_dim": 8}, "gemma3_text": {"head_dim": 8},
    "qwen2": {}, "qwen3": {"head_dim": 8}, "phi": {}, "phi3": {}, "gpt_neox": {}, "gpt2": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32}, "bloom": {}, "gptj": {"rotary_dim": 8},
}  # fmt: skip


def moved(made, size=0.1):
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for name, p in made.trainable().items():
            p.add_(torch.randn_like(p) * (1.0 if name.endswith("router") else size))
    return made


def looped(made):
    """Put a loop over whole networks in the place of each layer's feed-forward network."""
    for block in made.backbone.blocks:
        experts = [m for m in block.modules() if isinstance(m, LowRankExperts) and m.num_experts > 1]
        if not experts:
            continue
        *inputs, output = experts
        names = {name for name, _ in block.named_children()}
        holder = block.intermediate if "intermediate" in names else block.ffn if "ffn" in names else block.mlp
        act = next(m for name, m in holder.named_modules() if "act" in name)
        between = act if len(inputs) == 1 else lambda gate, up, act=act: act(gate) * up
        loop = LoopFeedForward(inputs, output, between, top_k=2, scale=2.0)
        if "intermediate" in names:
            block.intermediate, block.output.dense = nn.Identity(), loop
        else:
            setattr(block, "ffn" if "ffn" in names else "mlp", loop)
    return made


def outputs_and_gradients(made):
    made.model.eval()
    found = made.model(**batch(num_rows=4, length=16))
    found.loss.backward()
    return [found.logits.detach(), *(p.grad for p in made.trainable().values())]


@pytest.mark.parametrize("model", TINY_MODELS)
def test_it_equals_a_loop_over_whole_networks(adapted, model):
    settings = ["method=mixlora", f"model={model}", LAYERS]
    fast = outputs_and_gradients(moved(adapted(*settings)))
    slow = outputs_and_gradients(looped(moved(adapted(*settings))))
    assert len(fast) > 20
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", TINY_MODELS)
def test_parts_are_counted_exactly(experiment, adapted, model):
    settings = ["method=mixlora", f"model={model}", LAYERS]
    planned = ledger(experiment(*settings).method.inject(skeleton(experiment(*settings).model, 2)), 64)
    made = adapted(*settings)
    assert planned == ledger(made, 64)
    inner = 128 if model == "tiny_gpt2" else 64  # four times its width
    gated = 2 if model in ("tiny_llama", "tiny_mistral", "tiny_gemma", "tiny_qwen") else 1
    of_expert = 8 * (gated + 1) * (32 + inner)
    attention = sum(
        8 * sum(m.down.shape[-1:] + m.up.shape[-1:]) for m in low_rank_modules(made).values() if m.num_experts == 1
    )
    assert planned.parameters["adapters"] == (2 + 3 + 5) * of_expert + attention
    assert planned.parameters["routers"] == (2 + 3 + 5) * 32
    assert planned.experts_per_layer == [0, 2, 3, 5]
    per_layer = 2 * attention // 3 + 2 * 2 * of_expert  # two experts work on a token
    extra = planned.flops_per_token["active"] - planned.flops_per_token["base"]
    assert extra == 3 * per_layer + 2 * 32 * (2 + 3 + 5)
    assert planned.flops_per_token["computed"] > planned.flops_per_token["active"]


@pytest.mark.parametrize("family", FAMILIES)
def test_of_equal_experts_it_is_lora_in_every_family_and_decodes_alike_with_a_cache(family):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family]})
    model = AutoModelForCausalLM.from_config(config)
    plain = {name: p.detach().clone() for name, p in model.named_parameters()}
    made = moved(
        MixLoRA(allocation=Allocation(layers=[3, 3])).inject(Backbone(model, None, family, is_language_model=True))
    )
    assert sorted(made.routers) == [0, 1]
    model.eval()
    ids = torch.randint(2, 60, (3, 9))
    said = [model.generate(ids, max_new_tokens=12, do_sample=False, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*said)
    assert len(set(said[0][:, 9:].flatten().tolist())) > 2
    updates = {}
    with torch.no_grad():
        for name, module in low_rank_modules(made).items():
            module.down.copy_(module.down[:1].expand_as(module.down))
            module.up.copy_(module.up[:1].expand_as(module.up))
            updates[f"{name}.weight"] = 2.0 * (module.down[0].t() @ module.up[0])
        found = model(ids).logits
        whole = AutoModelForCausalLM.from_config(config).eval()
        for name, p in whole.named_parameters():
            update = updates.get(name, torch.zeros(()))
            p.copy_(plain[name] + (update if update.shape == p.shape and family == "gpt2" else update.t()))
        torch.testing.assert_close(found, whole(ids).logits, atol=1e-5, rtol=1e-5)


def test_layers_without_targets_stay_the_bases_own(adapted):
    made = adapted("method=mixlora", r"method.targets=['.*\.layer\.[23]\..*']")
    assert sorted(made.routers) == [2, 3]
    assert {name.split(".layer.")[1][0] for name in low_rank_modules(made)} == {"2", "3"}


def test_a_layer_of_one_expert_has_no_router_and_is_lora(adapted):
    mixed = moved(adapted("method=mixlora", "method.allocation.layers=[1,1,1,1]", "method.top_k=1"))
    lora = moved(adapted("method=lora"))
    assert not mixed.routers
    assert {n: p.shape for n, p in mixed.trainable().items()} == {n: p.shape for n, p in lora.trainable().items()}
    data = batch()
    assert torch.equal(mixed.model.eval()(**data).logits, lora.model.eval()(**data).logits)


@pytest.mark.parametrize("counted", [False, True])
def test_padding_changes_neither_choice_nor_balance_unless_it_is_counted(adapted, counted):
    data = batch(num_rows=4, length=20)
    wider = {name: nn.functional.pad(t, (0, 30)) if name != "labels" else t for name, t in data.items()}
    made = moved(adapted("method=mixlora", LAYERS, f"method.count_padding={counted}"))
    made.model.eval()
    found = []
    for each in (data, wider):
        logits = made.model(**each).logits
        found.append((float(made.auxiliary_loss().detach()), made.take_routing()["3"]["usage"], logits.detach()))
    torch.testing.assert_close(found[0][2], found[1][2], atol=1e-5, rtol=1e-5)
    assert (abs(found[0][0] - found[1][0]) > 1e-6) == counted
    assert (found[0][1] != pytest.approx(found[1][1])) == counted


def test_without_an_expert_its_tokens_get_the_bases_own_network(experiment, adapted):
    made = moved(adapted("method=mixlora", LAYERS))
    layers = experiment("method=mixlora", LAYERS).method.experts(made)
    assert {layer: len(experts.numbers()) for layer, experts in layers.items()} == {1: 2, 2: 3, 3: 5}
    data, ups = batch(), {name: module.up.clone() for name, module in low_rank_modules(made).items()}
    made.model.eval()
    whole = made.model(**data).logits
    with layers[2].without(1):
        changed = {n for n, m in low_rank_modules(made).items() if not torch.equal(m.up, ups[n])}
        assert changed == {f"bert.encoder.layer.2.{part}.dense" for part in ("intermediate", "output")}
        assert not torch.equal(made.model(**data).logits, whole)
    with layers[2].without(None):
        changed = {n for n, m in low_rank_modules(made).items() if not torch.equal(m.up, ups[n])}
        assert len(changed) == 6
    assert torch.equal(made.model(**data).logits, whole)


def test_a_run_is_read_by_every_command(experiment, capsys):
    record = run(experiment("method=mixlora", LAYERS, "train.max_steps=2", "output_dir=runs"))
    assert record.checks["reload"]["passed"]
    assert sorted(record.routing) == ["1", "2", "3"]
    assert record.parameters["routers"] == 10 * 32
    _, folder = only_record("runs")
    capsys.readouterr()
    assert main(["experts", str(folder), "--json", "--start", "--ablate", "experts", "--modules"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {each["module"] for each in found["linears"]} == {"intermediate.dense", "output.dense"}
    assert [(each["layer"], each["expert"]) for each in found["ablation"]["without"]] == [
        (layer, expert) for layer, count in ((1, 2), (2, 3), (3, 5)) for expert in range(count)
    ]
    assert main(["probe", f"run={folder}", "train.max_rows=16"]) == 0
    assert main(["compare", "runs", "--html", "page.html"]) == 0
    assert "MixLoRA" in Path("page.html").read_text()


def test_a_model_without_feed_forward_networks_of_known_names_is_refused():
    config = AutoConfig.for_model("xlnet", vocab_size=60, d_model=32, n_layer=2, n_head=4, d_inner=48)
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(MethodError, match="must have one feed-forward network of known names in each layer, got mine"):
        MixLoRA().inject(Backbone(model, None, "mine"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["method.targets=[query,value]"], "must match all linears of the feed-forward networks, got query, value"),
        (
            ["method.targets=['.*layer.0.*']", "method.allocation.layers=[0,2,2,2]"],
            "method.targets must match linears of a layer that the allocation gives experts, got .*layer.0.* and 0 2 2",
        ),
        (["method.targets=[gate_proj,down_proj]", "model=tiny_llama"], "down_proj without up_proj in layer 0"),
        (["method.dropout_per_expert=true"], "method.dropout_per_expert must be false for mixlora"),
        (["method.allocation.layers=[1,2,2,2]"], "method.top_k must not exceed any layer's experts, got 2 with 1"),
        (["method.allocation.layers=[2,2]"], "must give one count for each of the 4 layers"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_one_line(capsys, settings, said):
    assert main(["plan", "experiment=smoke", "method=mixlora", *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
