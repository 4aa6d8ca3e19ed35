"""Controls that learn no routing: what they compute, and that all else stays as it was."""

import json
from pathlib import Path

import pytest
import torch
from conftest import batch
from torch import nn

from molex_cli.cli import main
from molex_cli.config import command_line, overrides
from molex_cli.layers.experts import FusedLinears, LowRankExperts
from molex_cli.layers.fixed_gates import FixedGates, scrambled
from molex_cli.layers.routing_statistics import TokenWeights
from molex_cli.methods.allocation import Allocation, experts_per_layer
from molex_cli.run import run

CONTROLS = ["random", "uniform", "fixed"]


def expert_layer(kind, num_experts=4, top_k=2):
    """Return a linear with experts whose B is not zero, and the control's gates."""
    module = LowRankExperts(nn.Linear(12, 7), (12, 7), num_experts, 3, routed=False)
    nn.init.normal_(module.up)
    given = FixedGates(kind, num_experts, ["a"], top_k=top_k, tokens=TokenWeights(count_padding=False))
    FusedLinears([module], top_k=top_k, scale=2.0, dropout=0.0, fixed_gates=given)
    return module


def by_hand(module, x, experts):
    updates = [x @ module.down[e].t() @ module.up[e] for e in experts]
    return module.base(x) + 2.0 * torch.stack(updates).mean(0)


def test_uniform_is_the_mean_of_the_experts():
    module, x = expert_layer("uniform"), torch.randn(3, 5, 12)
    torch.testing.assert_close(module(x), by_hand(module, x, range(4)))


def test_fixed_is_the_mean_of_the_first_top_k():
    module, x = expert_layer("fixed"), torch.randn(3, 5, 12)
    torch.testing.assert_close(module(x), by_hand(module, x, range(2)))
    module(x).sum().backward()
    assert module.up.grad[:2].any()
    assert not module.up.grad[2:].any()


def chosen(ids, *, mask=None, past=None, name="layer.0.query"):
    """Return the experts, of 8, that random gates give each token: [B, T, 2]."""
    tokens = TokenWeights(count_padding=False)
    tokens.before(nn.Identity(), (), {"input_ids": ids, "attention_mask": mask, "past_key_values": past})
    gates = FixedGates("random", 8, [name], top_k=2, tokens=tokens).gates(ids.shape, ids.device)
    assert gates.sum(-1).eq(1).all()
    assert (gates > 0).sum(-1).eq(2).all()
    return gates[:, 0].topk(2).indices.sort(-1).values.view(*ids.shape, 2)


def test_random_experts_are_balanced_and_reproducible():
    ids = torch.randint(5, 30_000, (64, 128), generator=torch.Generator().manual_seed(0))
    found = chosen(ids)
    assert torch.equal(found, chosen(ids))
    counts = torch.bincount(found.flatten(), minlength=8) / found.numel()
    assert counts.tolist() == pytest.approx([1 / 8] * 8, abs=0.01)
    same_word = chosen(torch.full((64, 128), 7))  # of one word its position decides
    assert (torch.bincount(same_word[0].flatten(), minlength=8) > 0).all()
    assert not torch.equal(found, chosen(ids, name="layer.1.query"))


def test_random_experts_do_not_depend_on_padding_batch_or_cache():
    ids = torch.randint(5, 1000, (3, 10))
    alone = chosen(ids, mask=torch.ones(3, 10))
    right = chosen(nn.functional.pad(ids, (0, 4)), mask=nn.functional.pad(torch.ones(3, 10), (0, 4)))
    left = chosen(nn.functional.pad(ids, (4, 0)), mask=nn.functional.pad(torch.ones(3, 10), (4, 0)))
    assert torch.equal(right[:, :10], alone)
    assert torch.equal(left[:, 4:], alone)
    assert torch.equal(chosen(ids[1:2], mask=torch.ones(1, 10)), alone[1:2])
    assert torch.equal(chosen(ids[:, 9:], mask=torch.ones(3, 10)), alone[:, 9:])  # as when writing on


def test_scrambling_changes_half_of_the_bits():
    values = torch.arange(1000)
    flipped = scrambled(values) ^ scrambled(values ^ 1)
    share = sum(bin(int(value) & (2**64 - 1)).count("1") for value in flipped) / 64_000
    assert share == pytest.approx(0.5, abs=0.01)


def test_a_decoder_writes_the_same_with_and_without_its_cache(adapted):
    made = adapted("model=tiny_llama", "method=mola_inverted", "method.router=random")
    with torch.no_grad():
        for name, p in made.trainable().items():
            if name.endswith("up"):
                p.normal_(0, 0.5)
    made.model.eval()
    ids = torch.randint(5, 60, (2, 9))

    def states(ids, **given):
        return made.model(input_ids=ids, output_hidden_states=True, use_cache=True, **given)

    whole = states(ids, attention_mask=torch.ones_like(ids))
    first = states(ids[:, :8], attention_mask=torch.ones(2, 8))
    last = states(ids[:, 8:], attention_mask=torch.ones(2, 9), past_key_values=first.past_key_values)
    torch.testing.assert_close(last.hidden_states[-1][:, 0], whole.hidden_states[-1][:, 8], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_control_starts_with_the_same_experts_and_has_no_router(adapted, kind):
    learned = adapted("method=mola_inverted").trainable()
    control = adapted("method=mola_inverted", f"method.router={kind}")
    assert set(learned) - set(control.trainable()) == {name for name in learned if name.endswith("router")}
    for name, p in control.trainable().items():
        assert torch.equal(p, learned[name]), name
    made = control.model(**batch())
    assert torch.isfinite(made.loss)
    assert control.balance == 0


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_control_trains_on_the_same_data_in_the_same_order_and_reloads(experiment, kind):
    learned = run(experiment("method=mola_inverted"))
    record = run(experiment("method=mola_inverted", f"method.router={kind}"))
    assert record.status == "finished"
    assert record.checks["reload"]["passed"]
    assert record.checks["gradient_flow"]["passed"]
    assert "routers" not in record.parameters
    assert not any("collapsed" in reason for reason in record.degenerate)
    assert record.variant != learned.variant
    told = []
    for path in sorted(Path("outputs").glob("*/events.jsonl")):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        told.append([event["tokens"] for event in events if event["event"] == "step"])
    assert told[0] == told[1]


def test_random_experts_work_where_a_model_projects_more_than_its_tokens(experiment):
    record = run(experiment("model=tiny_deberta", "method=mola_inverted", "method.router=random"))
    assert record.checks["reload"]["passed"]


def test_a_random_model_without_ids_is_refused(adapted):
    made = adapted("method=mola_inverted", "method.router=random")
    with pytest.raises(Exception, match="must see the ids of the tokens"):
        made.model(inputs_embeds=torch.randn(2, 4, made.model.config.hidden_size))


def test_random_allocations_spend_the_total_and_differ_by_seed():
    found = {experts_per_layer(Allocation(shape="random", min=2, seed=seed), 12) for seed in range(50)}
    assert len(found) > 45
    assert all(sum(counts) == 60 and min(counts) >= 2 for counts in found)
    one = Allocation(shape="random", min=2, max=8, total=30, seed=3)
    assert experts_per_layer(one, 6) == experts_per_layer(one, 6)
    assert max(max(experts_per_layer(Allocation(shape="random", max=6, seed=s), 6)) for s in range(40)) == 6


def test_every_random_allocation_is_equally_likely():
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(3000):
        made = experts_per_layer(Allocation(shape="random", total=5, min=1, max=3, seed=seed), 3)
        counts[made] = counts.get(made, 0) + 1
    assert len(counts) == 6  # 1-1-3 and 1-2-2 in every order
    assert all(abs(count - 500) < 100 for count in counts.values())


def test_the_ablation_is_a_ready_sweep():
    line = command_line.parse(["-m", "experiment=ablation/allocation_vs_routing", "model=tiny_bert"])
    jobs, _ = overrides.jobs(line)
    assert len(jobs) == 4 * 4 * 3
    assert {job.experiment.method.router.name for job in jobs} == {"learned", *CONTROLS}
    assert len({job.experiment.name + str(job.values) for job in jobs}) == 48


def test_a_router_that_is_none_is_refused(capsys):
    assert main(["train", "experiment=smoke", "method=mola", "method.router=learnt"]) == 2
    assert "method.router must be one of learned, random, uniform, fixed, got 'learnt'" in capsys.readouterr().err


def guests_of(made, data):
    made.take_routing()
    with torch.no_grad():
        made.model(**{name: tensor for name, tensor in data.items() if name != "labels"})
    return {layer: figures["usage"] for layer, figures in made.take_routing().items()}


def test_molex_with_random_guests_has_no_gate_and_picks_them_evenly_and_again(adapted):
    made = adapted("method=molex", "method.router=random")
    assert not any("gate" in name for name in made.trainable())
    data = batch(num_rows=400, length=12)
    found = guests_of(made, data)
    assert found == guests_of(made, data)
    for usage in found.values():
        assert usage == pytest.approx([0.25] * 4, abs=0.08)
    assert found["0"] != found["1"]


def test_a_random_guest_does_not_depend_on_padding_or_batch(adapted):
    made = adapted("method=molex", "method.router=random")
    data = batch(num_rows=6, length=12)
    wider = {name: nn.functional.pad(t, (0, 7)) if name != "labels" else t for name, t in data.items()}
    alone = [guests_of(made, {name: t[row : row + 1] for name, t in data.items()}) for row in range(6)]
    for together in (guests_of(made, data), guests_of(made, wider)):
        for layer, usage in together.items():
            each = torch.tensor([row[layer] for row in alone]).mean(0)
            assert usage == pytest.approx(each.tolist())


@pytest.mark.parametrize("settings", [["method.level=token"], ["method.balance=0.1"], ["model=tiny_gpt2"]], ids=str)
def test_molex_with_random_guests_trains_and_reloads(experiment, settings):
    record = run(experiment("method=molex", "method.router=random", *settings))
    assert record.status == "finished"
    assert record.checks["reload"]["passed"]
    assert record.checks["gradient_flow"]["passed"]
    assert "gates" not in record.parameters
