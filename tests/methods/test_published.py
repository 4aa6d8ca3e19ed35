"""`mola_paper` and `molex_paper` against the published code, transcribed as plain formulas in support/published.py."""

import pytest
import torch
from support.mixing import spread
from support.published import moe_linear, molex_gpt2, smoothed_loss
from torch import nn

from molex_cli.checkpoints import adapter
from molex_cli.config.task import Kind, Language, Task
from molex_cli.data.reading import Split
from molex_cli.errors import ConfigError, MethodError
from molex_cli.layers.experts import FusedLinears, LowRankExperts
from molex_cli.layers.fused_lowrank import keep_mask
from molex_cli.layers.reference import LoopExperts
from molex_cli.methods.ledger import ledger
from molex_cli.methods.low_rank import low_rank_modules
from molex_cli.models.loading import load, skeleton
from molex_cli.objectives import build_objective
from molex_cli.objectives.base import for_model
from molex_cli.objectives.causal_lm import generated

CPU = torch.device("cpu")
TEXTS = [("a red cup", "It is red."), ("blue", "This one is blue, and cold."), ("two of them", "Two.")]
E2E = ["method=molex_paper", "model=tiny_gpt2", "method.lora.rank=2", "method.lora.alpha=16", "method.pad_to=40"]


@pytest.fixture
def writer(experiment):
    """Return a function from settings to a language model that writes texts, and its objective."""

    def make(*settings):
        made = experiment(*settings)
        language = Language(prompt="{q} =", max_new_tokens=5)
        made.task = Task(
            name="texts", kind=Kind.generation, columns=["q"], label="a", metrics=["bleu"], language=language
        )
        adapted = adapter.adapt(made, [])
        adapted.experiment = made
        adapted.backbone.tokenizer.add_bos_token = False
        return adapted, build_objective(made.task, made.model, [])

    return make


def rows(objective, adapted, tmp_path, *, training=True):
    labels = [(answer,) for _, answer in TEXTS]
    split = Split([f"train:{i}" for i in range(len(TEXTS))], [(asked,) for asked, _ in TEXTS], labels)
    return objective.encode(split, adapted.backbone.tokenizer, 40, tmp_path, training=training)


def batch_of(objective, adapted, encoded):
    pad_id = adapted.backbone.tokenizer.pad_token_id
    return for_model(adapted, objective.batch(encoded, range(len(TEXTS)), pad_id, adapted.pad_to))


def gradients(loss, adapted):
    parameters = adapted.trainable()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(parameters.items(), found, strict=True)
    }


@pytest.mark.parametrize("alpha_form", ["fixed", "softmax"])
@pytest.mark.parametrize(("layers", "smoothing"), [("published", 0.1), ("all", 0.0)])
def test_molex_on_gpt2_has_the_published_logits_and_gradients(writer, tmp_path, layers, smoothing, alpha_form):
    settings = ["method.alpha=0.7", f"method.alpha_form={alpha_form}", f"method.layers={layers}"]
    adapted, objective = writer(*E2E, *settings)
    objective.label_smoothing = smoothing
    for seed in range(3):
        spread(adapted, seed=seed)
        batch = batch_of(objective, adapted, rows(objective, adapted, tmp_path))
        adapted.take_routing()
        loss = objective.loss(adapted.model, batch) + adapted.balance * adapted.auxiliary_loss()
        logits, balance, guests = molex_gpt2(adapted, batch["input_ids"])
        expected = smoothed_loss(logits, batch["labels"], smoothing) + adapted.balance * balance
        usage = adapted.take_routing()
        assert [each["usage"].index(1.0) for each in usage.values()] == guests
        real = batch["attention_mask"].bool()
        torch.testing.assert_close(adapted.model(**batch).logits[real], logits[real], atol=1e-5, rtol=1e-5)
        wanted = gradients(expected, adapted)
        for name, gradient in gradients(loss, adapted).items():
            torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4, msg=name)


def voting(adapted, shape):
    """Return how many tokens of the last forward pass chose."""
    return int(adapted.tokens.of(torch.Size(shape), torch.ones(())).sum())


@pytest.mark.parametrize(("method", "everyone"), [("molex_paper", True), ("molex", False)])
def test_every_token_votes_where_it_is_published_so_and_the_prompt_alone_elsewhere(writer, tmp_path, method, everyone):
    adapted, objective = writer(f"method={method}", "model=tiny_gpt2", "method.pad_to=40")
    encoded = rows(objective, adapted, tmp_path)
    objective.loss(adapted.model, batch_of(objective, adapted, encoded))
    assert voting(adapted, (3, 40)) == (120 if everyone else int(encoded.starts.sum()))
    seen = []
    adapted.model.base_model.register_forward_hook(
        lambda module, args, output: seen.append(voting(adapted, args[0].shape))
    )
    generated(adapted, encoded, objective.task, 3, CPU)
    prompts = int(encoded.starts.sum())
    assert seen[0] == (120 if everyone else prompts)
    assert len(seen) == 5
    assert not everyone or seen == [120] * 5


@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_llama"])
def test_a_generation_step_chooses_as_the_forward_pass_of_training(writer, tmp_path, model):
    """Each token is the likeliest after a row padded on the right, in a batch of its own, as in training."""
    adapted, objective = writer(*E2E, f"model={model}", "method.alpha=0.5", "method.layers=all")
    for seed in range(3):
        spread(adapted, seed=seed)
        encoded = rows(objective, adapted, tmp_path, training=False)
        prompt = torch.from_numpy(encoded.row(0)[0][: encoded.starts[0]]).long()[None]
        written = adapted.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False, eos_token_id=None
        )
        pad_id = adapted.model.config.pad_token_id
        for length in range(prompt.shape[1], written.shape[1]):
            row = nn.functional.pad(written[:, :length], (0, 40 - length), value=pad_id)
            mask = (torch.arange(40) < length).long()[None]
            with torch.no_grad():
                logits = adapted.model(input_ids=row, attention_mask=mask, labels=row).logits
            assert int(logits[0, length - 1].argmax()) == int(written[0, length])


def test_beams_vote_together_and_nothing_is_cached(writer, tmp_path):
    adapted, objective = writer(*E2E)
    spread(adapted)
    encoded = rows(objective, adapted, tmp_path)
    objective.task.language.beams = 2
    assert len(generated(adapted, encoded, objective.task, 1, CPU)) == 3
    ids = torch.full((1, 4), 9)
    with pytest.raises(MethodError, match=r"use_cache must be false with method\.voters=all, got a key/value cache"):
        adapted.model(input_ids=ids, use_cache=True)
    with pytest.raises(MethodError, match=r"prompt_mask must be left out with method\.voters=all"):
        adapted.model(input_ids=ids, prompt_mask=torch.ones_like(ids))


def test_padding_that_sees_itself_changes_no_logit_of_a_token(writer, tmp_path):
    adapted, objective = writer("method=molex", "model=tiny_gpt2", "method.attend_padding=true")
    blind, _ = writer("method=molex", "model=tiny_gpt2")
    batch = batch_of(objective, adapted, rows(objective, adapted, tmp_path))
    real = batch["attention_mask"].bool()
    one, other = (spread(each).model(**batch).logits for each in (adapted, blind))
    torch.testing.assert_close(one[real], other[real], atol=1e-5, rtol=1e-5)
    assert (one[~real] - other[~real]).abs().max() > 1e-3


def test_query_and_value_of_gpt2_have_factors_of_their_own_and_the_key_none(adapted, experiment):
    settings = ["method=lora", "model=tiny_gpt2", "method.targets=[c_attn]", "method.joint_parts=[query,value]"]
    made = adapted(*settings, "method.rank=4", "method.dropout=0")
    modules = low_rank_modules(made)
    assert [name.rpartition("h.0.")[2] for name in list(modules)[:2]] == ["attn.c_attn.query", "attn.c_attn.value"]
    assert {(*module.down.shape, *module.up.shape) for module in modules.values()} == {(1, 4, 32, 1, 4, 32)}
    plain = load(experiment(*settings).model, 2, 0)
    joint, base = made.backbone.blocks[1].attn.c_attn, plain.blocks[1].attn.c_attn
    x = torch.randn(2, 5, 32)
    assert torch.equal(joint(x), base(x))
    spread(made)
    update = joint(x) - base(x)
    for part, name in ((0, "query"), (2, "value")):
        each = modules[f"transformer.h.1.attn.c_attn.{name}"]
        expected = 16 / 4 * (x @ each.down[0].t() @ each.up[0])
        torch.testing.assert_close(update[..., 32 * part : 32 * part + 32], expected, atol=1e-5, rtol=1e-4)
    assert update[..., 32:64].abs().max() < 1e-6


def test_factors_of_parts_are_counted_saved_and_merged_and_no_export_is_guessed(experiment, tmp_path, monkeypatch):
    settings = experiment(
        "method=lora", "model=tiny_gpt2", "method.targets=[c_attn,c_fc]", "method.joint_parts=[query,value]"
    )
    made = adapter.adapt(settings, ["no", "yes"])
    planned = ledger(settings.method.inject(skeleton(settings.model, 2)), 64)
    assert planned == ledger(made, 64)
    assert planned.parameters["adapters"] == 4 * 8 * (2 * (32 + 32) + 32 + 128)
    spread(made)
    adapter.save(tmp_path / "adapter.safetensors", made, settings, ["no", "yes"], step=1)
    ids = {"input_ids": torch.randint(4, 200, (2, 9))}
    logits = made.model(**ids).logits
    torch.testing.assert_close(
        adapter.load(tmp_path / "adapter.safetensors")[1].model.eval()(**ids).logits, logits, atol=1e-5, rtol=1e-5
    )
    pytest.importorskip("peft")
    with pytest.raises(MethodError, match=r"molex export must be given factors of whole linears, got .*query,value"):
        settings.method.export(made)
    settings.method.merge(made)
    assert not low_rank_modules(made)
    assert {name for name, _ in made.model.named_parameters()} == {
        name for name, _ in load(settings.model, 2, 0).model.named_parameters()
    }
    torch.testing.assert_close(made.model(**ids).logits, logits, atol=1e-5, rtol=1e-5)


def test_parts_are_refused_by_name_where_they_are_no_parts_or_lie_in_another_order(experiment, adapted):
    with pytest.raises(ConfigError, match=r"joint_parts must be different ones of query, key, value, got \['keys'\]"):
        experiment("method=lora", "method.joint_parts=[keys]")
    wide = ["model=tiny_bert", "model.config={model_type:gpt_neox,hidden_size:32,num_hidden_layers:2"]
    wide[1] += ",num_attention_heads:2,intermediate_size:64}"
    with pytest.raises(
        MethodError, match=r"method.joint_parts must be \[\] for tiny_bert, the parts of whose query_key"
    ):
        adapted(*wide, "method=lora", "method.joint_parts=[query]")
    # A model without a joint linear has nothing to part: the setting says so of nothing.
    assert adapted("model=tiny_llama", "method=lora", "method.joint_parts=[query]").trainable()


def test_all_layers_start_from_the_same_a_where_that_is_set(adapted):
    settings = ["method=lora", "model=tiny_gpt2", "method.targets=[c_attn]", "method.joint_parts=[query,value]"]
    for alike in (True, False):
        modules = low_rank_modules(adapted(*settings, f"method.same_start={str(alike).lower()}"))
        for part in ("query", "value"):
            first, *others = (module.down for name, module in modules.items() if name.endswith(part))
            assert all(torch.equal(first, other) == alike for other in others)
        assert not torch.equal(*(module.down for module in list(modules.values())[:2]))
    with pytest.raises(MethodError, match=r"method\.same_start must have factors of one size in all layers"):
        adapted("method=mola_inverted", "method.same_start=true")
    assert adapted("method=mola_rectangle", "method.same_start=true").trainable()


def experts_of(count, num_experts):
    torch.manual_seed(count)
    made = []
    for _ in range(count):
        module = LowRankExperts(nn.Linear(12, 10).requires_grad_(False), (12, 10), num_experts, rank=3)
        nn.init.normal_(module.up)
        made.append(module)
    return made


@pytest.mark.parametrize(("num_linears", "num_experts"), [(1, 4), (3, 4), (2, 1)])
def test_a_mask_for_each_expert_gives_the_published_outputs_and_gradients(num_linears, num_experts):
    modules = experts_of(num_linears, num_experts)
    top_k = min(2, num_experts)
    FusedLinears(modules, top_k=2, scale=2.0, dropout=0.25, dropout_per_expert=True)
    x = torch.randn(3, 4, 12, requires_grad=True)
    torch.manual_seed(5)
    found = [module(x) for module in modules]
    torch.manual_seed(5)
    masks = keep_mask(x.detach().reshape(-1, 12).expand(num_linears * num_experts, 12, 12), 0.25)
    masks = masks.view(num_linears, num_experts, 3, 4, 12)
    for module in modules:
        module.router = nn.Parameter(torch.zeros(1, 12)) if num_experts == 1 else module.router
    expected = [moe_linear(module, x, masks[i], top_k, 2.0, 0.75) for i, module in enumerate(modules)]
    leaves = [x, *(p for m in modules for p in (m.down, m.up, *([m.router] if num_experts > 1 else [])))]
    weights = torch.randn(3, 4, 10)
    grads = [torch.autograd.grad(sum((y * weights).sum() for y in ys), leaves) for ys in (found, expected)]
    for one, other in zip((*found, *grads[0]), (*expected, *grads[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_noise_of_masks_of_their_own_is_that_of_independent_draws():
    """With one mask the experts' noises add up with their signs; with two, their variances do."""
    (module,) = experts_of(1, 2)
    x, draws, p = torch.randn(1, 1, 12), 6000, 0.5
    gates = (x @ module.router.t()).softmax(-1)[0, 0].detach()
    each = x[0, 0, :, None] * torch.einsum("e,eri,ero->eio", gates, module.down, module.up).detach()
    expected = {True: (each**2).sum((0, 1)), False: (each.sum(0) ** 2).sum(0)}
    for own, variance in expected.items():
        FusedLinears([module], top_k=2, scale=1.0, dropout=p, dropout_per_expert=own)
        LoopExperts(module, top_k=2, scale=1.0, dropout=p, dropout_per_expert=own)
        torch.manual_seed(0)
        many = x.expand(draws, 1, 12).contiguous()
        loop = LoopExperts(module, top_k=2, scale=1.0, dropout=p, dropout_per_expert=own)
        for call in (module, loop):
            found = call(many).detach().var(0)[0]
            torch.testing.assert_close(found, variance * p / (1 - p), rtol=0.12, atol=1e-3)


def test_mola_paper_drops_for_each_expert_and_the_other_variants_once(adapted):
    for method, own in (("mola_paper", True), ("mola_inverted", False), ("lora", False)):
        made = adapted(f"method={method}", "model=tiny_llama")
        assert {module.fused.dropout_per_expert for module in low_rank_modules(made).values()} == {own}
