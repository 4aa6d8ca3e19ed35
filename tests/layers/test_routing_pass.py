"""Routers of a whole model counted together give what each gives alone."""

import copy
from typing import NamedTuple

import pytest
import torch
from conftest import batch
from torch.utils.checkpoint import checkpoint

from molex_cli.layers.routing import balance_loss, routing_sums, top_k_gates
from molex_cli.layers.routing_pass import RoutingPass, Seen


class Layer(NamedTuple):
    num_experts: int
    modules: list[str]


LAYERS = [Layer(4, ["a", "b", "c"]), Layer(2, ["a"]), Layer(7, ["a", "b"]), Layer(4, ["a"])]
WEIGHTS = torch.tensor([1.0] * 30 + [0.0] * 10)


def logits_of(layer: Layer) -> torch.Tensor:
    return torch.randn(40, len(layer.modules), layer.num_experts, requires_grad=True)


def passed(all_logits: list[torch.Tensor]) -> RoutingPass:
    """Return a pass that saw these logits, the last layer's first."""
    routed = RoutingPass(lambda shape, like: WEIGHTS)
    numbers = [routed.join(layer) for layer in LAYERS]
    see(routed, list(zip(numbers, all_logits, strict=True))[::-1])
    return routed


def see(routed: RoutingPass, pairs: list[tuple[int, torch.Tensor]]) -> None:
    for number, logits in pairs:
        routed.see(Seen(number, 0, logits, top_k_gates(logits.detach(), 2)), torch.Size([40]))
    routed.end()


def test_sums_of_layers_with_different_experts_are_those_of_each_alone():
    torch.manual_seed(0)
    all_logits = [logits_of(layer) for layer in LAYERS]
    routed = passed(all_logits)
    assert routed.sums(0) is None
    routed.count()
    for number, logits in enumerate(all_logits):
        probability = logits.detach().softmax(-1)
        alone = routing_sums(probability, top_k_gates(logits.detach(), 2), WEIGHTS)
        torch.testing.assert_close(routed.sums(number), alone.double(), rtol=1e-6, atol=1e-5)


def test_balance_losses_and_their_gradients_are_those_of_each_layer_alone():
    torch.manual_seed(1)
    all_logits = [logits_of(layer) for layer in LAYERS]
    found = passed(all_logits).balances()
    gradients = torch.autograd.grad((found * torch.arange(1.0, 5)).sum(), all_logits)
    for number, logits in enumerate(all_logits):
        probability = logits.softmax(-1)
        chosen = (top_k_gates(logits, 2) > 0).float()
        load, importance = (torch.einsum("t,tge->e", WEIGHTS, each) for each in (chosen, probability))
        alone = balance_loss(load / load.sum(), importance / importance.detach().sum())
        torch.testing.assert_close(found[number], alone)
        (expected,) = torch.autograd.grad((number + 1) * alone, logits)
        torch.testing.assert_close(gradients[number], expected)


def test_sums_are_taken_and_restored_layer_by_layer():
    torch.manual_seed(2)
    first, second = ([logits_of(layer) for layer in LAYERS] for _ in range(2))
    routed = passed(first)
    routed.count()
    resumed = RoutingPass(lambda shape, like: WEIGHTS)
    for number in [resumed.join(layer) for layer in LAYERS]:
        resumed.put(number, routed.sums(number))
    for each in (routed, resumed):
        each.clear()
        see(each, list(enumerate(second)))
        each.count()
    assert all(torch.equal(routed.sums(n), resumed.sums(n)) for n in range(len(LAYERS)))
    routed.put(1, None)
    assert routed.sums(1) is None
    routed.clear()
    see(routed, [(1, second[1])])
    routed.count()
    assert float(routed.sums(1)[0, -1]) == 30
    assert float(routed.sums(0)[0, -1]) == 60


def test_a_layer_that_was_not_called_has_no_balance_loss():
    logits = logits_of(LAYERS[0])
    routed = RoutingPass(lambda shape, like: WEIGHTS)
    for layer in LAYERS:
        routed.join(layer)
    see(routed, [(0, logits)])
    found = routed.balances()
    assert found[0] > 0
    assert found[1:].eq(0).all()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_forward_pass_is_counted_once_however_often_it_is_computed(adapted, checkpointed):
    made = adapted("method=mola_inverted", "method.dropout=0.05")
    made.model.train()
    if checkpointed:
        for block in made.backbone.blocks:
            block.forward = again(block.forward)
    figures, given = [], batch(num_rows=2, length=6)
    for _ in range(2):
        torch.manual_seed(0)
        loss = made.model(**given).loss + made.auxiliary_loss()
        loss.backward()
        figures.append(made.tokens.routed.sums(0)[:, -1])
    tokens = int(given["attention_mask"].sum())
    assert figures[0].eq(tokens).all()
    assert figures[1].eq(2 * tokens).all()


def again(forward):
    return lambda *args, **kwargs: checkpoint(forward, *args, use_reentrant=False, **kwargs)


def test_gradients_under_activation_checkpointing_are_the_same(adapted):
    plain = adapted("method=mola_inverted", "method.dropout=0.05")
    other = copy.deepcopy(plain)
    for block in other.backbone.blocks:
        block.forward = again(block.forward)
    for made in (plain, other):
        made.model.train()
        torch.manual_seed(0)
        loss = made.model(**batch(num_rows=2, length=6)).loss + made.auxiliary_loss()
        loss.backward()
    for (name, one), two in zip(plain.trainable().items(), other.trainable().values(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, msg=name)


def test_rows_that_do_not_count_leave_no_trace_and_have_no_balance_loss(adapted):
    made = adapted("method=mola_inverted")
    with made.uncounted():
        made.model(**batch())
        balance = made.auxiliary_loss()
    assert float(balance.detach()) == 0.0
    balance.backward()
    assert made.tokens.routed.sums(0) is None
