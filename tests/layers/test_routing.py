"""Gates, balance loss and usage, by their closed forms."""

import math
from typing import NamedTuple

import pytest
import torch

from molex_cli.layers.routing import (
    RoutingSums,
    ballots,
    entropy,
    majority,
    routing_sums,
    top_k_gates,
    vote_margin,
)
from molex_cli.layers.routing_pass import RoutingPass, Seen


class Layer(NamedTuple):
    num_experts: int
    modules: list[str]


def balance(logits: torch.Tensor, top_k: int, weights: torch.Tensor) -> torch.Tensor:
    """Return the balance loss of a layer whose routers had these logits [T, G, E]."""
    routed = RoutingPass(lambda shape, like: weights)
    layer = routed.join(Layer(logits.shape[2], ["linear"] * logits.shape[1]))
    routed.see(Seen(layer, 0, logits, top_k_gates(logits, top_k)), logits.shape[:1])
    routed.end()
    return routed.balances()[layer]


def layer_balance(logits: torch.Tensor, top_k: int, weights: torch.Tensor | None = None) -> float:
    return float(balance(logits, top_k, torch.ones(logits.shape[0]) if weights is None else weights))


@pytest.mark.parametrize("num_experts", [1, 2, 3, 5, 8, 13])
def test_a_uniform_router_has_balance_loss_one(num_experts):
    assert layer_balance(torch.zeros(40, 1, num_experts), top_k=min(2, num_experts)) == pytest.approx(1.0)


@pytest.mark.parametrize(("num_experts", "top_k"), [(2, 1), (4, 2), (8, 2), (8, 3), (6, 6)])
def test_a_router_collapsed_onto_its_k_experts_has_balance_loss_n_over_k(num_experts, top_k):
    logits = torch.full((40, 3, num_experts), -60.0)
    logits[..., :top_k] = 60.0
    assert layer_balance(logits, top_k) == pytest.approx(num_experts / top_k)


def test_padding_does_not_change_the_balance_loss():
    logits = torch.randn(30, 2, 5)
    padded = torch.cat([logits, 100 * torch.randn(50, 2, 5)])
    weights = torch.cat([torch.ones(30), torch.zeros(50)])
    assert layer_balance(padded, 2, weights) == pytest.approx(layer_balance(logits, 2))


def test_gates_are_the_renormalised_top_of_the_softmax():
    logits = torch.randn(20, 3, 7)
    probability = logits.softmax(-1)
    top = probability.topk(2, -1)
    expected = torch.zeros_like(probability).scatter(-1, top.indices, top.values / top.values.sum(-1, keepdim=True))
    assert torch.allclose(top_k_gates(logits, 2), expected, atol=1e-6)


def test_gates_are_float32_whatever_the_logits_are():
    assert top_k_gates(torch.randn(4, 1, 3, dtype=torch.bfloat16), 2).dtype == torch.float32


def test_ties_choose_exactly_k_experts():
    assert (top_k_gates(torch.zeros(6, 1, 5), 2) > 0).sum(-1).eq(2).all()


def test_the_balance_loss_trains_the_router_through_probability_only():
    logits = torch.randn(20, 1, 4, requires_grad=True)
    balance(logits, 2, torch.ones(20)).backward()
    probability = logits.detach().softmax(-1).requires_grad_(True)
    gates = top_k_gates(logits.detach(), 2)
    load = (gates > 0).float().sum(0) / 40
    (4 * (load * probability.sum(0) / 20).sum()).backward()
    through = probability * (probability.grad - (probability * probability.grad).sum(-1, keepdim=True))
    torch.testing.assert_close(logits.grad, through.detach())
    assert logits.grad.abs().sum() > 0


def test_votes_are_counted_for_each_sequence_without_padding_and_the_first_of_equals_wins():
    first = torch.tensor([[0, 2, 2, 1, 1], [1, 1, 2, 0, 0]])
    logits = torch.nn.functional.one_hot(first, 3).float()
    counted = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    found = ballots(logits, counted, torch.zeros(len(logits), logits.shape[-1]))
    assert found.tolist() == [[1, 2, 2], [0, 2, 1]]
    assert majority(found).tolist() == [1, 1]
    torch.testing.assert_close(vote_margin(found), torch.tensor([0.0, 1 / 3]))
    assert vote_margin(torch.tensor([[4.0, 0, 0], [0, 0, 0]])).tolist() == [1.0, 0.0]
    assert vote_margin(torch.tensor([[3.0]])).tolist() == [1.0]
    assert vote_margin(torch.tensor([[2.0, 1.0]])).tolist() == [pytest.approx(1 / 3)]
    assert vote_margin(torch.tensor([[0.0, 1, 0, 0]])).tolist() == [1.0]


def test_each_unit_has_a_majority_of_its_own_and_experts_without_a_ballot_count():
    assert majority(torch.tensor([[1.0, 3, 2], [0, 0, 1], [5, 0, 0]])).tolist() == [1, 2, 0]
    logits = torch.tensor([[[2.0, 1, 0, 0], [2, 1, 0, 0]]])
    assert ballots(logits, torch.ones(1, 2), torch.zeros(1, logits.shape[-1])).tolist() == [[2, 0, 0, 0]]


def test_entropy_is_zero_when_certain_and_log_n_when_uniform():
    assert float(entropy(torch.tensor([1.0, 0, 0]))) == 0.0
    assert float(entropy(torch.full((5,), 0.2))) == pytest.approx(math.log(5))


def test_packed_sums_keep_the_layout_that_stored_states_have():
    packed = torch.arange(18.0).view(2, 9)  # 2 linears of 2 experts: chosen, gate, first, entropy, variance, tokens
    sums = RoutingSums.unpacked(packed)
    assert RoutingSums.width(2) == 9
    assert (sums.chosen.tolist(), sums.gate.tolist(), sums.first.tolist()) == (
        [[0, 1], [9, 10]],
        [[2, 3], [11, 12]],
        [[4, 5], [13, 14]],
    )
    assert (sums.entropy.tolist(), sums.logit_variance.tolist(), sums.tokens.tolist()) == ([6, 15], [7, 16], [8, 17])
    assert torch.equal(sums.packed(), packed)


def test_sums_count_each_token_by_its_weight():
    probability = torch.tensor([[[0.75, 0.25]], [[0.25, 0.75]], [[0.5, 0.5]]])
    sums = RoutingSums.unpacked(
        routing_sums(probability, top_k_gates(probability.log(), 1), torch.tensor([1.0, 1.0, 0.0]))
    )
    assert (sums.chosen.tolist(), sums.gate.tolist(), sums.first.tolist()) == ([[1, 1]], [[1, 1]], [[1, 1]])
    assert sums.tokens.tolist() == [2]
    assert float(sums.entropy[0]) == pytest.approx(2 * float(entropy(torch.tensor([0.25, 0.75]))))
    assert float(sums.logit_variance[0]) == pytest.approx(2 * (math.log(3) / 2) ** 2)
