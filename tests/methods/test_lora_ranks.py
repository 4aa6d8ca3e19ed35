"""LoRA whose rank differs by layer: what MoLA of the same allocation adds, without a choice."""

import json

import pytest
import torch
from conftest import batch
from support.runs import only_record

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.config import command_line, overrides, schema
from molex_cli.records import variant_id
from molex_cli.run import run

LAYERS = "method.allocation.layers=[0,1,2,3]"


def moved(made):
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for p in made.trainable().values():
            p.add_(0.1 * torch.randn_like(p))
    return made


def gradients(made):
    made.model.eval()
    made.model(**batch(num_rows=4, length=16)).loss.backward()
    return {name: p.grad for name, p in made.trainable().items()}


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
def test_it_equals_experts_that_are_averaged_and_not_chosen(adapted, model):
    lora = moved(adapted("method=lora", f"model={model}", LAYERS))
    mola = adapted("method=mola", f"model={model}", LAYERS, "method.router=uniform")
    both = lora.trainable(), mola.trainable()
    assert [p.numel() for p in both[0].values()] == [p.numel() for p in both[1].values()]
    with torch.no_grad():
        for name, p in mola.trainable().items():  # [1, N r, in] is N experts of [r, in]
            p.copy_(both[0][name].view(p.shape))
    theirs = gradients(mola)
    for name, gradient in gradients(lora).items():
        torch.testing.assert_close(gradient.view(theirs[name].shape), theirs[name], atol=1e-6, rtol=1e-5)


def test_of_equal_ranks_it_is_lora_of_that_rank(adapted):
    spread = moved(adapted("method=lora", "method.rank=4", "method.allocation.mean=2"))
    plain = moved(adapted("method=lora", "method.rank=8"))
    assert {n: p.shape for n, p in spread.trainable().items()} == {n: p.shape for n, p in plain.trainable().items()}
    data = batch()
    assert torch.equal(spread.model.eval()(**data).logits, plain.model.eval()(**data).logits)


@pytest.mark.parametrize("shape", ["inverted", "top", "hourglass"])
def test_it_has_the_parameters_of_the_experts_without_their_routers(capsys, shape):
    plans = []
    for method in ("lora", "mola"):
        command = ["plan", "--json", "model=tiny_bert", f"method={method}", f"method.allocation.shape={shape}"]
        assert main(command) == 0
        plans.append(json.loads(capsys.readouterr().out))
    lora, mola = plans
    assert lora["parameters"]["adapters"] == mola["parameters"]["adapters"]
    assert "routers" not in lora["parameters"]
    assert lora["rank_per_layer"] == [8 * count for count in mola["experts_per_layer"]]
    assert lora["experts_per_layer"] is mola["rank_per_layer"] is None


def test_a_run_says_its_ranks_and_is_compared_by_what_was_set(experiment, capsys):
    made = experiment("method=lora", "method.allocation.shape=top", "train.max_steps=1")
    record = run(made)
    assert record.rank_per_layer == [0, 0, 64, 96]
    assert "rank per layer     0 0 64 96  total 160" in capsys.readouterr().out
    run(experiment("method=lora", "train.max_steps=1"))
    capsys.readouterr()
    assert main(["compare", "outputs", "--rows", "method,method.allocation.shape"]) == 0
    shown = capsys.readouterr().out
    assert "LoRA method.allocation.shape=top" in shown
    assert "LoRA method.allocation.shape=None" in shown
    assert main(["compare", "outputs"]) == 0
    assert "(method.allocation.shape=top" in " ".join(capsys.readouterr().out.split())


def test_only_what_is_set_changes_an_id(experiment):
    def of(*settings):
        return schema.as_data(experiment("method=lora", *settings))

    old = of()
    del old["method"]["allocation"]
    assert variant_id(of()) == variant_id(old)
    assert variant_id(of("method.allocation.shape=top")) != variant_id(old)
    assert schema.as_data(schema.from_data("lora", old)) == of()
    mola = schema.as_data(experiment("method=mola"))
    without = {key: value for key, value in mola["method"].items() if key != "allocation"}
    assert variant_id(mola) != variant_id(mola | {"method": without})


@pytest.mark.parametrize(
    ("solve", "setting"), [("rank", "rank"), ("total", "allocation.total"), ("mean", "allocation.mean")]
)
@pytest.mark.parametrize("shape", [["method.allocation.shape=inverted"], []], ids=["inverted", "even"])
def test_its_budget_is_matched(capsys, solve, setting, shape):
    command = ["plan", "--json", "model=tiny_bert", "method=lora", *shape, "--match", "mola_inverted", "--solve", solve]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["match"]["setting"].startswith(f"method.{setting}=")
    assert abs(found["match"]["left_over"]) < 0.06  # one rank more in each layer is 5 %
    if solve != "rank":
        assert sum(found["rank_per_layer"]) // 8 in (20, 21)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["method.allocation.min=0"], "method.allocation must set shape, rule, mean, total, bands or layers"),
        (["method.allocation.layers=[1,2]"], "method.allocation.layers must give one count for each of the 4 layers"),
        (["method.allocation.total=2"], "method.allocation must spend between 4 and"),
        ([LAYERS, "method.same_start=true"], "method.same_start must have factors of one size in all layers"),
        (["method.allocation.shap=top"], "method.allocation.shap is no setting; did you mean method.allocation.shape?"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_one_line(capsys, settings, said):
    assert main(["plan", "model=tiny_bert", "method=lora", *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_shapes_are_swept_over_lora_and_mola_together():
    line = command_line.parse(["-m", "model=tiny_bert", "method=lora,mola", "method.allocation.shape=top,inverted"])
    jobs, _ = overrides.jobs(line)
    assert len({variant_id(schema.as_data(job.experiment)) for job in jobs}) == 4


def test_the_experts_of_lora_can_be_left_out_by_layer(experiment, capsys):
    run(experiment("method=lora", LAYERS, "train.max_steps=1", "output_dir=runs"))
    _, made = only_record("runs")
    capsys.readouterr()
    assert main(["experts", str(made), "--ablate", "layers", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [each["layer"] for each in found["ablation"]["without"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "at"),
    [
        (["method=lora"], "method"),
        (["method=lora", "method.joint_parts=[query,value]", "model=tiny_gpt2"], "method"),
        (["method=mola", "method.allocation.layers=[0,1,2,3]", "method.clip_top_k=true"], "method"),
        (["method=molex"], "method.lora"),
    ],
    ids=["lora", "joint", "mola", "molex"],
)
def test_under_the_root_of_the_rank_every_update_is_larger_by_that_root(adapted, settings, at):
    root = moved(adapted(*settings, f"{at}.rank=4", f"{at}.scaling=alpha_over_root_rank"))
    plain = moved(adapted(*settings, f"{at}.rank=4", f"{at}.alpha=32"))
    data = batch()
    assert torch.equal(root.model.eval()(**data).logits, plain.model.eval()(**data).logits)


def test_under_the_root_of_the_rank_a_layer_of_four_times_the_rank_has_half_the_factor(experiment):
    chosen = experiment("method=lora", "method.allocation.layers=[1,1,4,4]", "method.scaling=alpha_over_root_rank")
    factors = chosen.method.factors(adapter.adapt(chosen, ["no", "yes"]))
    assert {round(scale, 6) for name, (_, _, scale) in factors.items() if ".0." in name} == {round(16 / 8**0.5, 6)}
    assert {round(scale, 6) for name, (_, _, scale) in factors.items() if ".3." in name} == {round(8 / 8**0.5, 6)}
