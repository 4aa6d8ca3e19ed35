"""What routers are said to have done, on routers that do what they are told, and the alarm when they collapse."""

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import batch
from support.runs import sequence
from torch import nn

from molex_cli.cli import main
from molex_cli.errors import TrainingError
from molex_cli.layers import routing
from molex_cli.layers.experts import FusedLinears, LowRankExperts
from molex_cli.layers.fixed_gates import FixedGates
from molex_cli.layers.routing_statistics import LayerRouting, TokenWeights
from molex_cli.run import run
from molex_cli.training.summary import collapsed

MOLA = ["method=mola", "method.allocation.layers=[4,4,2,1]", "method.clip_top_k=true"]


def test_figures_of_a_forced_routing_are_exact():
    # Three tokens, one linear, four experts, top 2; the last token is padding.
    probability = torch.tensor([[[0.5, 0.3, 0.1, 0.1]], [[0.25, 0.5, 0.125, 0.125]], [[0.0, 0.0, 0.5, 0.5]]])
    gates = routing.top_k_gates(probability.log(), 2)
    found = routing.statistics(routing.routing_sums(probability, gates, torch.tensor([1.0, 1.0, 0.0])), top_k=2)
    assert found["usage"] == pytest.approx([0.5, 0.5, 0, 0])
    assert found["gate"] == pytest.approx([(5 / 8 + 1 / 3) / 2, (3 / 8 + 2 / 3) / 2, 0, 0])
    entropies = [-sum(p * math.log(p) for p in row) for row in ((0.5, 0.3, 0.1, 0.1), (0.25, 0.5, 0.125, 0.125))]
    assert found["entropy"] == pytest.approx(sum(entropies) / 2)
    assert found["effective"] == pytest.approx(2.0)
    assert found["utilisation"] == pytest.approx(0.0, abs=1e-6)
    assert (found["top1"], found["dead"]) == (0.5, 2)
    logits = probability[:2, 0].log()
    centred = logits - logits.mean(-1, keepdim=True)
    assert found["logit"] == pytest.approx(float((centred**2).mean().sqrt()))


def test_an_even_routing_has_all_its_freedom_and_as_few_experts_as_top_k_have_none():
    even = torch.eye(4).repeat(5, 1)[:, None]
    found = routing.statistics(routing.routing_sums(even, routing.top_k_gates(even.log(), 1), torch.ones(20)), top_k=1)
    assert (found["effective"], found["utilisation"], found["dead"]) == (pytest.approx(4), pytest.approx(1), 0)
    few = torch.full((20, 1, 2), 0.5)
    assert routing.statistics(routing.routing_sums(few, few, torch.ones(20)), top_k=2)["utilisation"] is None


def test_nothing_counted_is_said_without_numbers_that_mislead():
    nothing = routing.statistics(torch.zeros(3, 15), top_k=2)
    assert (nothing["utilisation"], nothing["dead"], nothing["effective"]) == (None, 0, 0.0)


def test_every_linear_has_figures_of_its_own_that_add_up_to_the_layers(adapted):
    made = adapted("method=mola_inverted")
    made.model(**batch())
    for layer, figures in made.take_routing().items():
        names = set(figures["modules"])
        assert {"attention.self.query", "attention.self.value", "intermediate.dense", "output.dense"} <= names
        modules = list(figures["modules"].values())
        each = torch.tensor([one["usage"] for one in modules])
        assert each.mean(0).tolist() == pytest.approx(figures["usage"]), layer
        assert figures["dead"] == sum(one["dead"] for one in modules)
        assert figures["effective"] == pytest.approx(sum(one["effective"] for one in modules) / len(modules))


def test_no_figure_counts_padding(adapted):
    made = adapted("method=mola_inverted")
    made.model.eval()
    data = batch(num_rows=4, length=20)
    wider = {name: torch.nn.functional.pad(t, (0, 30)) if name != "labels" else t for name, t in data.items()}
    found = []
    for each in (data, wider):
        made.take_routing()
        made.model(**each)
        found.append(made.take_routing())
    for layer, figures in found[0].items():
        for name, value in figures["modules"]["output.dense"].items():
            assert found[1][layer]["modules"]["output.dense"][name] == pytest.approx(value, abs=1e-5), (layer, name)


def test_a_pinned_router_is_a_collapse_and_as_many_experts_as_chosen_is_none(adapted):
    made = adapted(*MOLA)
    for name, p in made.trainable().items():
        if name.endswith("router"):
            with torch.no_grad():
                p.zero_()  # equal logits: the first two of each are chosen, for every token
    made.model(**batch())
    said = collapsed(made.take_routing(), 0.05)
    assert said == "routers collapsed onto few experts: 2.0 of 4 in layer 0, 2.0 of 4 in layer 1"
    spread = adapted(*MOLA)
    spread.model(**batch())
    assert collapsed(spread.take_routing(), 0.05) == ""


def test_the_alarm_warns_marks_or_stops(experiment, monkeypatch):
    strict = ["method=mola_inverted", "collapse.below=1.0"]  # no real routing is perfectly even
    record = run(experiment(*strict))
    assert any("collapsed onto few experts" in reason for reason in record.degenerate)
    record = run(experiment(*strict, "collapse.action=warn", "resume=never"))
    assert not any("collapsed" in reason for reason in record.degenerate)
    with pytest.raises(TrainingError, match=r"collapsed onto few experts: .*; raise method.balance"):
        run(experiment(*strict, "collapse.action=stop", "resume=never"))
    notes = [path.read_text().count("collapsed onto few") for path in Path("outputs").glob("*/events.jsonl")]
    assert all(notes)
    record = run(experiment("method=mola_inverted", "resume=never"))
    assert not any("collapsed" in reason for reason in record.degenerate)


def test_stop_stops_again_when_the_same_command_is_given_again(capsys):
    stop = ["experiment=smoke", "method=mola_inverted", "collapse.below=1.0", "collapse.action=stop"]
    for start in ("training           4 steps, 1,807 tokens\n", "resuming after step 4\n"):
        assert main(["train", *stop]) == 2
        out = capsys.readouterr().out
        assert start in out
        assert "failed: routers collapsed onto few experts" in out


@pytest.mark.parametrize("kind", ["learned", "fixed"])
def test_figures_are_summed_in_full_precision_under_autocast(kind):
    """In bf16 a sum stops growing at 256 equal parts, and a collapse goes unnoticed."""
    weights = TokenWeights(count_padding=False)
    torch.manual_seed(0)
    module = LowRankExperts(nn.Linear(12, 7), (12, 7), 4, 3, routed=kind == "learned")
    counted = LayerRouting(4, 2, weights, has_routers=kind == "learned")
    given = None if kind == "learned" else FixedGates(kind, 4, ["a"], top_k=2, tokens=weights)
    FusedLinears([module], top_k=2, scale=1.0, dropout=0.0, routing=counted, fixed_gates=given)
    model = nn.Module()
    model.inner = module
    model.forward = lambda x, attention_mask=None: module(x)
    weights.watch(model)
    x = torch.randn(2, 300, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        for _ in range(300):
            model(x, attention_mask=torch.ones(2, 300))
    sums = counted.sums()
    assert sums.dtype == torch.float64
    assert float(sums[0, -1]) == 300 * 600
    figures = counted.take()
    assert sum(figures["usage"]) == pytest.approx(1.0)
    assert (figures["logit"] is None) == (kind != "learned")


def test_a_run_of_stages_keeps_its_routing_and_tells_that_of_training_once():
    assert main([*sequence("one", "two"), "method=mola_inverted"]) == 0
    (path,) = Path("outputs").glob("*/record.json")
    assert len(json.loads(path.read_text())["routing"]["3"]["usage"]) == 8
    lines = (path.parent / "events.jsonl").read_text().splitlines()
    scored = [json.loads(line) for line in lines if '"evaluated"' in line]
    assert [bool(event["training_routing"]) for event in scored] == [True, False, True, False]


def test_events_have_the_routing_of_training_and_of_evaluation():
    assert main(["train", "experiment=smoke", "method=mola_inverted", "train.evaluate_every=2"]) == 0
    (path,) = Path("outputs").glob("*/events.jsonl")
    scored = [json.loads(line) for line in path.read_text().splitlines() if '"evaluated"' in line]
    assert len(scored) == 2
    for event in scored:
        for routed in (event["routing"], event["training_routing"]):
            assert len(routed["3"]["usage"]) == 8
            assert sum(routed["3"]["usage"]) == pytest.approx(1.0)
    assert scored[0]["training_routing"] != scored[0]["routing"]
