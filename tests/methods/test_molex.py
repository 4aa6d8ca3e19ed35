"""MoLEx against a plain reading of its equation, and the promises of its two variants."""

from collections import Counter

import pytest
import torch
from conftest import batch
from support.mixing import MODELS, spread
from torch import nn

from molex_cli.config.schema import Train
from molex_cli.layers.gates import CosineGate
from molex_cli.layers.mixing import MixedBlock
from molex_cli.training.gradient_flow import GradientFlow
from molex_cli.training.loop import optimizer

OTHER_FAMILIES = ["tiny_roberta", "tiny_distilbert", "tiny_deberta", "tiny_mistral", "tiny_gemma", "tiny_qwen"]


class Reference(nn.Module):
    """alpha u_t(z) + (1 - alpha)(w u_j(z) + (1 - w) u_t(z)), row by row, with every block computed on every row."""

    def __init__(self, mixed: MixedBlock, mask: torch.Tensor, router_gradient: str) -> None:
        super().__init__()
        self.mixed, self.mask, self.router_gradient = mixed, mask, router_gradient
        self.chosen: list[int] = []

    def forward(self, *args, **kwargs):
        z = args[0]
        outputs = [block(*args, **kwargs) for block in self.mixed._blocks]
        own = outputs[self.mixed.layer]
        logits = z @ self.mixed.gate.weight.t() + self.mixed.gate.bias
        probability = torch.softmax(logits, -1)
        alpha = self.mixed.host_weight()
        rows = []
        for row in range(len(z)):
            real = self.mask[row].bool()
            votes = Counter(logits[row, real].argmax(-1).tolist())
            guest = min(votes, key=lambda layer: (-votes[layer], layer))
            self.chosen.append(guest)
            p = probability[row, real, guest].mean()
            w = {"none": 1.0, "gate": p, "straight_through": 1 + p - p.detach()}[self.router_gradient]
            rows.append(alpha * own[row] + (1 - alpha) * (w * outputs[guest][row] + (1 - w) * own[row]))
        return torch.stack(rows)


def pin(made, layer=None):
    """Let every layer choose the given guest, or itself."""
    for own, choice in made.routers.items():
        choice.pinned = own if layer is None else layer
    return made


def logits_and_gradients(made, data):
    """Return logits and the gradient of every trained tensor, zero where there is none."""
    parameters = made.trainable()
    made.model.zero_grad()
    output = made.model(**data)
    output.loss.backward()
    none = torch.zeros(())
    return output.logits.detach(), {n: none if p.grad is None else p.grad.clone() for n, p in parameters.items()}


def gradient_by_group(made, data, *, balance=0.0):
    """Return the largest gradient of each tensor, by group."""
    made.model.zero_grad()
    (made.model(**data).loss + balance * made.auxiliary_loss()).backward()
    return {
        group.name: [0.0 if p.grad is None else float(p.grad.abs().max()) for p in group.parameters.values()]
        for group in made.groups
    }


@pytest.mark.parametrize("router_gradient", ["none", "gate", "straight_through"])
@pytest.mark.parametrize("model", MODELS)
def test_outputs_and_gradients_equal_a_plain_reading_of_the_equation(adapted, model, router_gradient):
    made = spread(
        adapted(
            "method=molex",
            f"model={model}",
            "method.alpha=0.6",
            "method.gate_per_layer=true",
            f"method.router_gradient={router_gradient}",
        )
    )
    data = batch(num_rows=5, length=14)
    in_float32 = made.model(**data).logits.detach()
    made.model.double()
    logits, found = logits_and_gradients(made, data)
    references = [Reference(block, data["attention_mask"], router_gradient) for block in made.backbone.blocks]
    for layer, reference in enumerate(references):
        made.backbone.blocks[layer] = reference
    expected_logits, expected = logits_and_gradients(made, data)
    assert len({guest for reference in references for guest in reference.chosen}) > 2
    torch.testing.assert_close(logits, expected_logits, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(in_float32.double(), expected_logits, atol=1e-5, rtol=1e-5)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-10, rtol=1e-8, check_dtype=False, msg=name)


@pytest.mark.parametrize("inner", ["lora", "bitfit", "none"])
@pytest.mark.parametrize("model", MODELS)
def test_with_alpha_one_or_pinned_to_itself_it_is_its_inner_method_exactly(adapted, model, inner):
    if (model, inner) == ("tiny_llama", "bitfit"):
        pytest.skip("Llama has no biases")
    plain = adapted(f"method={'head' if inner == 'none' else inner}", f"model={model}")
    alone = adapted(
        "method=molex", f"model={model}", f"method.inner={inner}", "method.alpha=1", "method.alpha_form=fixed"
    )
    pinned = pin(adapted("method=molex", f"model={model}", f"method.inner={inner}", "method.alpha=0.5"))
    data = batch()
    for made in (plain, alone, pinned):
        spread(made)
        inside = [group for group in made.groups if group.name not in ("gates", "alphas")]
        torch.manual_seed(5)
        with torch.no_grad():
            for group in inside:
                for p in group.parameters.values():
                    p.copy_(0.1 * torch.randn_like(p))
    expected, gradients = logits_and_gradients(plain, data)
    for made in (alone, pinned):
        logits, found = logits_and_gradients(made, data)
        assert torch.equal(logits, expected)
        for name, gradient in found.items():
            if name.replace(".host.", ".") in gradients:
                assert torch.equal(gradient, gradients[name.replace(".host.", ".")]), name


@pytest.mark.parametrize("model", [*MODELS, "tiny_roberta", "tiny_mistral"])
def test_only_the_published_variant_depends_on_batch_mates_and_padding(adapted, model):
    """The published vote is one for the whole batch, padding included: a prediction depends on its company."""
    data = {name: tensor for name, tensor in batch(num_rows=8, length=20).items() if name != "labels"}
    alone = {name: tensor[-1:, :10] for name, tensor in data.items()}
    padded = {name: nn.functional.pad(tensor, (0, 25)) for name, tensor in alone.items()}
    for method, depends in (("molex", False), ("molex_paper", True)):
        shifts = []
        for seed in range(6):  # of gates, since a vote may come out the same by chance
            made = spread(adapted(f"method={method}", f"model={model}", "method.alpha=0.5"), 0.1, seed)
            with torch.no_grad():
                in_batch = made.model(**data).logits[-1:]
                shifts += [float((made.model(**other).logits - in_batch).abs().max()) for other in (alone, padded)]
        assert (max(shifts) > 1e-3) if depends else (max(shifts) < 1e-5), (method, shifts)
        assert bool(made.batch_dependent) == depends


@pytest.mark.parametrize("model", OTHER_FAMILIES)
@pytest.mark.parametrize("method", ["molex", "molex_paper"])
def test_the_other_families_mix_and_train_too(adapted, model, method):
    made = spread(adapted(f"method={method}", f"model={model}", "method.balance=0.01"))
    found = gradient_by_group(made, batch(), balance=0.01)
    assert all(value > 0 for value in found["gates"])
    assert all(value > 0 for value in found["adapters"])
    routing = made.take_routing()
    assert all(sum(figures["usage"]) == pytest.approx(1.0) for figures in routing.values())


@pytest.mark.parametrize("gate", ["linear", "cosine"])
@pytest.mark.parametrize("model", MODELS)
def test_the_task_loss_reaches_every_gate_of_molex(adapted, model, gate):
    for router_gradient in ("straight_through", "gate"):
        made = spread(
            adapted(
                "method=molex",
                f"model={model}",
                "method.gate_per_layer=true",
                f"method.gate={gate}",
                f"method.router_gradient={router_gradient}",
            )
        )
        found = gradient_by_group(made, batch(num_rows=8, length=24))
        assert all(value > 0 for value in found["gates"]), found["gates"]
        assert all(value > 0 for value in found["alphas"])


def test_both_forms_of_a_learned_alpha_learn(adapted):
    for form, numbers in (("sigmoid", 1), ("softmax", 2)):
        made = spread(adapted("method=molex", "method.alpha=0.6", f"method.alpha_form={form}"))
        made.model(**batch()).loss.backward()
        gradient = made.backbone.blocks[0].host_weight.logits.grad
        assert gradient.shape == (numbers,)
        assert gradient.abs().min() > 0


def test_a_gate_that_the_task_cannot_reach_is_found_by_the_self_check(adapted):
    made = spread(adapted("method=molex"))
    for block in made.backbone.blocks:
        block.router_gradient = "none"  # what a mistake in the backward pass would do
    flow = GradientFlow.of(made)
    for _ in range(2):
        made.model(**batch()).loss.backward()
        flow.observe()
    assert flow.report()["passed"] is False
    assert all(".gate." in name for name in flow.report()["without_gradient"])


def test_a_gate_whose_layers_chose_themselves_is_excused(adapted):
    made = pin(spread(adapted("method=molex")))
    flow = GradientFlow.of(made)
    for _ in range(2):
        made.model(**batch()).loss.backward()
        flow.observe()
    assert flow.report()["passed"] is True
    assert set(flow.report()["known"].values()) == {"its layers chose nothing but themselves"}


@pytest.mark.parametrize("over_tokens", [False, True])
def test_the_cosine_gate_is_its_formula(over_tokens):
    torch.manual_seed(0)
    gate = CosineGate(8, 5, torch.device("cpu"), projected=6, over_tokens=over_tokens)
    z = torch.randn(2, 7, 8)
    projected = z @ gate.weight.t() + gate.bias
    length = projected.norm(dim=1, keepdim=True) if over_tokens else projected.norm(dim=2, keepdim=True)
    vectors = gate.vectors / gate.vectors.norm(dim=1, keepdim=True)
    torch.testing.assert_close(gate(z), 2.0 * (projected / length) @ vectors.t())  # exp(log 2) at the start
    with torch.no_grad():
        gate.temperature.fill_(9.0)
    torch.testing.assert_close(gate(z), 100.0 * (projected / length) @ vectors.t())


@pytest.mark.parametrize("model", MODELS)
def test_the_task_loss_reaches_no_gate_of_the_published_variant(adapted, model):
    made = spread(adapted("method=molex_paper", f"model={model}", "method.balance=0"))
    flow = GradientFlow.of(made)
    found = gradient_by_group(made, batch())
    assert found["gates"] == [0.0] * len(found["gates"])
    flow.observe()
    flow.observe()
    report = flow.report()
    assert report["passed"] is True
    assert {reason for name, reason in report["known"].items() if ".gate." in name} == {
        "no task gradient reaches the gate (method.router_gradient=none), and method.balance is 0"
    }
    balanced = spread(adapted("method=molex_paper", f"model={model}"))
    assert all(value > 0 for value in gradient_by_group(balanced, batch(), balance=0.01)["gates"])


def test_a_guest_learns_from_being_one(adapted):
    """With the weight of hosts at 0, only the guest's adapters can learn."""
    made = pin(spread(adapted("method=molex", "method.alpha=0", "method.alpha_form=fixed")), layer=2)
    made.model.zero_grad()
    made.model(**batch()).loss.backward()
    reached = {
        name.split(".")[3] for name, p in made.groups[0].parameters.items() if p.grad is not None and p.grad.any()
    }
    assert reached == {"2"}


def test_a_layer_that_chose_itself_is_computed_once_and_twice_as_published(adapted):
    for method, times in (("molex", 1), ("molex_paper", 2)):
        made = pin(adapted(f"method={method}"))
        calls = Counter()
        for layer, block in enumerate(made.backbone.blocks):
            block.host.register_forward_hook(lambda *_, layer=layer, calls=calls: calls.update([layer]))
        made.model(**batch())
        assert calls == dict.fromkeys(range(4), times)


def test_rows_of_one_guest_are_computed_together(adapted):
    made = spread(adapted("method=molex"))
    sizes = []
    for block in made.backbone.blocks:
        block.host.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    made.model(**batch(num_rows=8, length=16))
    hosts, guests = 4 * 8, sum(sizes) - 4 * 8
    assert hosts + guests <= 2 * hosts
    assert len(sizes) <= 4 + 4 * 4


def test_alpha_starts_at_what_is_configured(adapted):
    for form in ("sigmoid", "softmax", "fixed"):
        for alpha in (0.95, 0.5, 0.1):
            made = adapted("method=molex", f"method.alpha={alpha}", f"method.alpha_form={form}")
            started = torch.as_tensor(made.backbone.blocks[0].host_weight()).item()
            assert started == pytest.approx(alpha, abs=1e-6)
    # The two numbers of the published scripts, which start at 0.5 each.
    paper = adapted("method=molex_paper")
    assert paper.backbone.blocks[0].host_weight.logits.tolist() == [0.5, 0.5]


def test_gates_have_an_optimizer_group_of_their_own(adapted):
    made = adapted("method=molex", "method.gate_learning_rate=0.02", "method.gate_weight_decay=0.3")
    groups = {group["name"]: group for group in optimizer(made, 1e-4, Train(weight_decay=0.01)).param_groups}
    assert {name: (group["peak"], group["weight_decay"]) for name, group in groups.items()} == {
        "adapters": (1e-4, 0.01),
        "gates": (0.02, 0.3),
        "alphas": (0.02, 0.3),
        "head": (1e-4, 0.01),
    }
    shared = adapted("method=molex", "method.gate_weight_decay=null")
    groups = {group["name"]: group for group in optimizer(shared, 1e-4, Train(weight_decay=0.01)).param_groups}
    assert (groups["gates"]["peak"], groups["gates"]["weight_decay"]) == (1e-4, 0.01)


def test_adapters_start_as_plain_lora_does(adapted):
    lora, molex = adapted("method=lora").trainable(), adapted("method=molex").trainable()
    for name, p in molex.items():
        if ".down" in name or ".up" in name:
            assert torch.equal(p, lora[name.replace(".host.", ".")])


@pytest.mark.parametrize(
    ("settings", "mixing", "guests"),
    [
        (["method.layers=first_half"], [0, 1], {0: [0, 1, 2, 3], 1: [0, 1, 2, 3]}),
        (["method.layers=[3,1]"], [1, 3], {1: [0, 1, 2, 3]}),
        (["method.guests=first_half"], [0, 1, 2, 3], {3: [0, 1]}),
        (["method.guests=later"], [0, 1, 2], {0: [0, 1, 2, 3], 2: [2, 3]}),
        (["method.guests=[2,0]"], [0, 1, 2, 3], {1: [0, 2]}),
        (["method.layers=published"], [0, 1, 2, 3], {}),
        (["method.layers=published", "model=tiny_gpt2"], [0, 1], {}),
    ],
)
def test_layers_that_mix_and_layers_that_may_be_guests(adapted, settings, mixing, guests):
    made = spread(adapted("method=molex", *settings))
    assert [layer for layer, block in enumerate(made.backbone.blocks) if isinstance(block, MixedBlock)] == mixing
    assert {layer: made.routers[layer].guests for layer in guests} == guests
    made.model(**batch(num_rows=8))
    for layer, figures in made.take_routing().items():
        used = {guest for guest, share in enumerate(figures["usage"]) if share > 0}
        assert used <= set(made.routers[int(layer)].guests)


def test_usage_entropy_and_margin_of_forced_gates(adapted):
    made = adapted("method=molex", "method.gate_per_layer=true")
    made.model.eval()
    with torch.no_grad():
        for layer, block in enumerate(made.backbone.blocks):
            block.gate.weight.zero_()
            block.gate.bias.zero_()
            block.gate.bias[(layer + 1) % 4] = 50.0 if layer else 0.0
        made.model(**batch())
    routing = made.take_routing()
    # Layer 0: all equal, so every token votes for the first; the others are certain of the next layer.
    assert routing["0"] == {"usage": [1, 0, 0, 0], "entropy": pytest.approx(1.3863, abs=1e-4), "margin": 1.0}
    assert routing["1"] == {"usage": [0, 0, 1, 0], "entropy": pytest.approx(0, abs=1e-6), "margin": 1.0}
    assert routing["3"]["usage"] == [1, 0, 0, 0]
    assert made.take_routing()["1"]["usage"] == [0, 0, 0, 0]


def test_balance_of_molex_counts_sequences_and_of_the_published_variant_is_one_hot(adapted):
    data = batch(num_rows=8, length=16)
    for method in ("molex", "molex_paper"):
        made = spread(adapted(f"method={method}"))
        made.model(**data)
        usage = {layer: figures["usage"] for layer, figures in made.take_routing().items()}
        one_hot = all(max(shares) == 1.0 for shares in usage.values())
        assert one_hot == (method == "molex_paper")
    parts = [spread(adapted("method=molex_paper", f"method.balance_sum={each}")) for each in ("true", "false")]
    for made in parts:
        made.model(**data)
    assert float(parts[0].auxiliary_loss().detach()) == pytest.approx(4 * float(parts[1].auxiliary_loss().detach()))
    # One-hot f: the loss of a layer is L times the mean probability of the layer voted for.
    made = spread(adapted("method=molex_paper", "method.layers=[2]"))
    block, seen = made.backbone.blocks[2], {}
    block.gate.register_forward_hook(lambda _, args, logits: seen.update(logits=logits))
    made.model(**data)
    mean = seen["logits"].detach().softmax(-1).mean((0, 1))
    voted = Counter(seen["logits"].argmax(-1).flatten().tolist()).most_common(1)[0][0]
    assert float(made.auxiliary_loss().detach()) == pytest.approx(4 * float(mean[voted]), rel=1e-5)


def test_token_level_gives_every_token_its_own_guest(adapted):
    made = spread(adapted("method=molex", "method.level=token", "method.alpha=0.5", "method.alpha_form=fixed"))
    data = batch(num_rows=4, length=12)
    block, seen = made.backbone.blocks[1], {}
    handle = block.register_forward_hook(lambda _, args, output: seen.update(z=args[0], args=args, out=output))
    made.model(**data)
    handle.remove()
    outputs = torch.stack([each(*seen["args"]) for each in block._blocks])
    chosen = block.gate(seen["z"]).argmax(-1)
    own = outputs[1]
    guest = outputs.gather(0, chosen[None, :, :, None].expand(1, *own.shape))[0]
    real = data["attention_mask"].bool()
    torch.testing.assert_close(seen["out"][real], (0.5 * own + 0.5 * guest)[real], atol=1e-5, rtol=1e-5)
    assert len(set(chosen[real].tolist())) > 1
