"""Conformance: every method of the registry, on encoders and decoders, keeps the same promises."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
import yaml
from conftest import batch

from molex_cli.checkpoints import adapter
from molex_cli.config import command_line, schema
from molex_cli.errors import MethodError
from molex_cli.methods.base import METHODS
from molex_cli.methods.ledger import ledger
from molex_cli.models.loading import load, skeleton
from molex_cli.training.gradient_flow import GradientFlow

# Llama has no biases; these tuners of PEFT take no Conv1D, which GPT-2's linears are.
DO_NOT_FIT = {("bitfit", "tiny_llama"), *((f"peft/{kind}", "tiny_gpt2") for kind in ("loha", "lokr", "oft"))}
MODELS = ("tiny_bert", "tiny_gpt2", "tiny_llama")
# These promise nothing more of a method, or are planned for every YAML and tested in test_allocation.py.
CHANGE_NO_CODE = ("defaults", "name", "display_name", "learning_rate", "allocation")


def models_of(method: str) -> list[str]:
    return [model for model in MODELS if (method, model) not in DO_NOT_FIT]


def as_written(method: str) -> tuple[str, dict]:
    """Return the name of a YAML's class and those of its settings that may lead through other code."""
    found = yaml.safe_load((command_line.conf_dir() / "method" / f"{method}.yaml").read_text(encoding="utf-8"))
    name = found["defaults"][0].removeprefix("/schema/method/").partition("@")[0]
    return name, {key: value for key, value in found.items() if key not in CHANGE_NO_CODE}


def cases() -> Iterator[tuple[str, str]]:
    """Yield a class's first YAML on all models, and each with settings of its own on an encoder and a decoder."""
    seen: dict[str, list[dict]] = {}
    for method in command_line.options("method"):
        name, settings = as_written(method)
        of_class = seen.setdefault(name, [])
        if settings not in of_class:
            yield from ((method, model) for model in models_of(method)[: 2 if of_class else None])
            of_class.append(settings)


def marks(method: str) -> tuple:
    missing = method.startswith("peft/") and not find_spec("peft")
    return (pytest.mark.skip(reason="PEFT is not installed"),) if missing else ()


every_method = pytest.mark.parametrize(
    ("method", "model"), [pytest.param(method, model, marks=marks(method)) for method, model in cases()]
)
every_yaml = pytest.mark.parametrize(
    "method", [pytest.param(method, marks=marks(method)) for method in command_line.options("method")]
)


@every_method
def test_the_base_is_frozen_and_only_handles_train(adapted, method, model):
    made = adapted(f"method={method}", f"model={model}")
    trained = {id(p) for p in made.trainable().values()}
    assert trained == {id(p) for p in made.model.parameters() if p.requires_grad}
    assert sum(len(group.parameters) for group in made.groups) == len(trained)
    assert all(group.parameters for group in made.groups)
    names = dict(made.model.named_parameters())
    assert all(names[name] is p for name, p in made.trainable().items())


@every_method
def test_an_untrained_method_leaves_the_logits_unchanged(experiment, method, model):
    settings = experiment(f"method={method}", f"model={model}")
    if not settings.method.starts_at_base:
        pytest.skip("this method changes the base model from the start")
    plain = load(settings.model, 2, settings.seed).model.eval()
    made = adapter.adapt(settings, ["no", "yes"]).model.eval()
    data = batch()
    torch.testing.assert_close(made(**data).logits, plain(**data).logits, atol=1e-6, rtol=1e-6)


@every_method
def test_every_trainable_tensor_gets_a_gradient_within_three_steps(adapted, method, model):
    made = adapted(f"method={method}", f"model={model}")
    flow = GradientFlow.of(made)
    adam = torch.optim.AdamW(list(made.trainable().values()), lr=1e-2)
    for seed in range(3):
        loss = made.model(**batch(num_rows=4, length=24, seed=seed)).loss
        balance = made.auxiliary_loss()
        (loss if balance is None else loss + made.balance * balance).backward()
        flow.observe()
        adam.step()
        adam.zero_grad()
    report = flow.report()
    # The encoder's type embedding 1 and unused positions are rows of a tensor, not tensors without gradient.
    assert report["passed"], report["without_gradient"]


@every_method
def test_the_plan_equals_the_built_model(experiment, method, model):
    settings = experiment(f"method={method}", f"model={model}")
    built = adapter.adapt(settings, ["no", "yes"])
    planned = ledger(settings.method.inject(skeleton(settings.model, 2)), 64)
    assert planned.parameters["trainable"] == sum(p.numel() for p in built.model.parameters() if p.requires_grad)
    assert planned.parameters["total"] == sum(p.numel() for p in built.model.parameters())
    assert planned == ledger(built, 64)


@every_method
def test_saved_and_loaded_it_gives_identical_logits(experiment, tmp_path, method, model):
    settings = experiment(f"method={method}", f"model={model}")
    made = adapter.adapt(settings, ["no", "yes"])
    with torch.no_grad():
        for p in made.trainable().values():
            p.add_(0.05 * torch.randn_like(p))
    path = tmp_path / "adapter.safetensors"
    adapter.save(path, made, settings, ["no", "yes"], step=7)
    saved, loaded = adapter.load(path)
    assert saved.experiment == settings
    assert (saved.labels, saved.step) == (["no", "yes"], 7)
    data = batch()
    assert torch.equal(loaded.model.eval()(**data).logits, made.model.eval()(**data).logits)


@every_method
def test_the_same_seed_builds_the_same_and_another_seed_another(experiment, method, model):
    def built(seed):
        return adapter.adapt(
            experiment(f"method={method}", f"model={model}", f"seed={seed}"), ["no", "yes"]
        ).trainable()

    one, same, other = built(0), built(0), built(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@every_yaml
def test_every_yaml_says_who_it_is_and_is_planned_for_every_model(experiment, method):
    for model in models_of(method):
        settings = experiment(f"method={method}", f"model={model}")
        assert type(settings.method) is METHODS[as_written(method)[0]]
        assert settings.method.name == method
        assert settings.method.display_name
        assert settings.method.published == method.endswith("_paper")
        backbone = skeleton(settings.model, 2)
        frozen = sum(p.numel() for p in backbone.model.parameters())
        made = settings.method.inject(backbone)
        planned = ledger(made, 64).parameters
        assert planned["total"] >= frozen
        assert 0 < planned["trainable"] <= planned["total"]
        assert made.experts_per_layer == settings.method.experts_per_layer(backbone.num_layers)
        assert made.rank_per_layer == settings.method.rank_per_layer(backbone.num_layers)


def test_every_registered_method_has_a_yaml_and_is_tested():
    assert {as_written(method)[0] for method, _ in cases()} == set(METHODS)


def test_bitfit_refuses_a_model_without_biases(adapted):
    with pytest.raises(MethodError, match="method=bitfit must have biases to train, got none in tiny_llama"):
        adapted("method=bitfit", "model=tiny_llama")


@pytest.mark.parametrize("model", ["tiny_distilbert", "tiny_deberta", "tiny_mistral", "tiny_gemma", "tiny_qwen"])
def test_mola_trains_on_the_other_families_too(adapted, model):
    made = adapted("method=mola_inverted", f"model={model}")
    loss = made.model(**batch()).loss + made.auxiliary_loss()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in made.trainable().values())
    assert made.experts_per_layer == (2, 4, 6, 8)
    usage = {layer: figures["usage"] for layer, figures in made.take_routing().items()}
    assert [len(shares) for shares in usage.values()] == [2, 4, 6, 8]
    assert all(sum(shares) == pytest.approx(1.0) for shares in usage.values())


@pytest.mark.parametrize("method", ["mola", "mixlora", "molex"])
def test_it_trains_and_is_counted_after_a_forward_pass_in_inference_mode(adapted, method):
    made = adapted(f"method={method}")
    with torch.inference_mode():
        made.model(**batch())
    made.take_routing()
    (made.model(**batch()).loss + made.auxiliary_loss()).backward()
    assert made.take_routing()


def test_mola_counts_padding_only_where_it_reproduces_the_published_code(adapted):
    data = batch(num_rows=4, length=20)
    wider = {name: torch.nn.functional.pad(t, (0, 30)) if name != "labels" else t for name, t in data.items()}
    for method, changes in (("mola_inverted", False), ("mola_paper", True)):
        made = adapted(f"method={method}", "model=tiny_bert")
        made.model.eval()
        balances = []
        for each in (data, wider):
            made.model(**each)
            balances.append(float(made.auxiliary_loss().detach()))
        assert (abs(balances[0] - balances[1]) > 1e-6) == changes


def test_a_layer_with_one_expert_has_no_router_and_equals_lora(adapted):
    mola = adapted("method=mola", "method.allocation.layers=[1,1,1,1]", "method.top_k=1")
    assert not mola.routers
    assert mola.auxiliary_loss() is None
    lora = adapted("method=lora")
    assert {n: p.shape for n, p in mola.trainable().items()} == {n: p.shape for n, p in lora.trainable().items()}


def test_balance_is_averaged_over_layers_and_summed_in_the_published_variant(adapted):
    data = batch()
    totals = []
    for method in ("mola_inverted", "mola_paper"):
        made = adapted(f"method={method}", "method.count_padding=true")
        made.model.eval()
        made.model(**data)
        totals.append(float(made.auxiliary_loss().detach()))
    assert totals[1] == pytest.approx(4 * totals[0], rel=1e-5)


def test_settings_of_every_yaml_resolve(experiment):
    for group in ("model", "task", "hardware"):
        for option in command_line.options(group):
            extra = ["task.files.train=a.csv", "task.files.validation=b.csv", "task.columns=[a]"]
            made = experiment(f"{group}={option}", *(extra if option == "files" else []))
            assert isinstance(made, schema.Experiment)
