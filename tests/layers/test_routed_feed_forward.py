"""Feed-forward networks as experts equal a plain loop over whole networks, outputs and all gradients."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from molex_cli.errors import MethodError
from molex_cli.layers.experts import LowRankExperts
from molex_cli.layers.fixed_gates import FixedGates
from molex_cli.layers.reference import LoopFeedForward
from molex_cli.layers.routed_feed_forward import RoutedFeedForward
from molex_cli.layers.routing_statistics import LayerRouting, TokenWeights

WIDE, INNER, RANK = 12, 20, 3
BETWEEN = {1: functional.gelu, 2: lambda gate, up: functional.silu(gate) * up}


def network(num_inputs, num_experts, kind=nn.Linear, bias=True):
    """Return the experts of the first linears and of the last."""
    torch.manual_seed(num_inputs + num_experts)
    made = []
    for number, (num_in, num_out) in enumerate([(WIDE, INNER)] * num_inputs + [(INNER, WIDE)]):
        linear = nn.Linear(num_in, num_out, bias=bias) if kind is nn.Linear else Conv1D(num_out, num_in)
        nn.init.normal_(linear.weight, std=0.3)
        experts = LowRankExperts(linear.requires_grad_(False), (num_in, num_out), num_experts, RANK, routed=number == 0)
        nn.init.normal_(experts.up, std=0.3)
        made.append(experts)
    return made[:-1], made[-1]


def called(inputs, output, x):
    """Call the modules as a model does."""
    return output(BETWEEN[len(inputs)](*(linear(x) for linear in inputs)))


def outputs_and_gradients(call, modules, x):
    x = x.clone().requires_grad_(True)
    y = call(x)
    parameters = [p for m in modules for p in (m.down, m.up, m.router) if p is not None]
    loss = (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()
    return [y.detach(), *torch.autograd.grad(loss, [x, *parameters])]


def expect_equal(one, other):
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
@pytest.mark.parametrize("num_inputs", [1, 2])
@pytest.mark.parametrize(("num_experts", "top_k"), [(5, 2), (4, 4), (2, 2), (3, 1)])
def test_it_equals_the_loop_over_whole_networks(kind, num_inputs, num_experts, top_k):
    inputs, output = network(num_inputs, num_experts, kind)
    RoutedFeedForward(inputs, output, top_k=top_k, scale=2.0, dropout=0.0)
    loop = LoopFeedForward(inputs, output, BETWEEN[num_inputs], top_k=top_k, scale=2.0)
    x = torch.randn(4, 7, WIDE)
    fast = outputs_and_gradients(lambda x: called(inputs, output, x), [*inputs, output], x)
    expect_equal(fast, outputs_and_gradients(loop, [*inputs, output], x))


def test_experts_that_nobody_chose_get_a_zero_gradient():
    inputs, output = network(2, 4)
    with torch.no_grad():
        inputs[0].router[:] = 0.0
        inputs[0].router[:2, 0] = 10.0
    RoutedFeedForward(inputs, output, top_k=2, scale=1.0, dropout=0.0)
    x = torch.rand(6, 5, WIDE) + 0.5
    _, _, *gradients = outputs_and_gradients(lambda x: called(inputs, output, x), [*inputs, output], x)
    for gradient in (each for each in gradients if each.ndim == 3):
        assert gradient[2:].abs().max() == 0
        assert gradient[:2].abs().max() > 0


def test_without_a_router_all_experts_are_averaged():
    inputs, output = network(2, 3)
    gates = FixedGates("uniform", 3, ["mlp"], top_k=3, tokens=TokenWeights(False))
    RoutedFeedForward(inputs, output, top_k=3, scale=2.0, dropout=0.0, fixed_gates=gates)
    x = torch.randn(2, 5, WIDE)
    fast = called(inputs, output, x)
    with torch.no_grad():
        inputs[0].router.zero_()
    loop = LoopFeedForward(inputs, output, BETWEEN[2], top_k=3, scale=2.0)
    torch.testing.assert_close(fast, loop(x), atol=1e-5, rtol=1e-5)


def test_dropout_is_on_the_inputs_of_updates_only_and_keeps_their_mean():
    inputs, output = network(1, 3)
    RoutedFeedForward(inputs, output, top_k=2, scale=1.0, dropout=0.5)
    x = torch.randn(1, 4, WIDE)
    modules = [*inputs, output]
    with torch.no_grad():
        for module in modules:
            module.eval()
        opened = inputs[0](x)
        last = output(opened)
        for module in modules:
            module.train()
        drawn = [(inputs[0](x.clone()), output(opened)) for _ in range(4000)]
        for draws, expected in zip(map(torch.stack, zip(*drawn, strict=True)), (opened, last), strict=True):
            assert ((draws.mean(0) - expected).abs() <= 5 * draws.std(0) / 4000**0.5 + 1e-5).all()
            assert draws.std(0).min() > 0
        for module in modules:
            module.up.zero_()
        plain = output.base(functional.gelu(inputs[0].base(x)))
        torch.testing.assert_close(called(inputs, output, x), plain, atol=1e-5, rtol=1e-5)


def test_autocast_computes_in_bfloat16_and_trains_float32_parameters():
    inputs, output = network(2, 3)
    RoutedFeedForward(inputs, output, top_k=2, scale=1.0, dropout=0.1)
    x = torch.randn(2, 5, WIDE, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = called(inputs, output, x)
    assert y.dtype is torch.bfloat16
    y.float().sum().backward()
    for module in (*inputs, output):
        assert module.down.grad.dtype is module.up.grad.dtype is torch.float32
    assert inputs[0].router.grad.abs().max() > 0


def test_in_bfloat16_without_autocast_the_parameters_stay_float32():
    inputs, output = network(2, 3)
    for module in (*inputs, output):
        module.base.to(torch.bfloat16)
    RoutedFeedForward(inputs, output, top_k=2, scale=1.0, dropout=0.0)
    assert called(inputs, output, torch.randn(2, 5, WIDE).bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize("num_inputs", [1, 2])
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_products_that_are_counted_are_those_that_are_computed(num_inputs, top_k):
    inputs, output = network(num_inputs, 4)
    made = RoutedFeedForward(inputs, output, top_k=top_k, scale=1.0, dropout=0.0)
    x = torch.randn(2, 5, WIDE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        called(inputs, output, x)
    frozen = sum(2 * m.base.weight.numel() for m in (*inputs, output))
    assert counter.get_total_flops() == 10 * (frozen + made.flops_per_token(active=False))
    each = 2 * RANK * (num_inputs + 1) * (WIDE + INNER)
    assert made.flops_per_token(active=True) == top_k * each + 2 * 4 * WIDE


def test_usage_and_balance_count_real_tokens_only():
    inputs, output = network(2, 4)
    weights = TokenWeights(False)
    routing = LayerRouting(4, 2, weights)
    RoutedFeedForward(inputs, output, top_k=2, scale=1.0, dropout=0.0, routing=routing)

    class Model(nn.Module):
        def forward(self, x, attention_mask=None):
            return called(inputs, output, x)

    model = Model()
    weights.watch(model)
    x = torch.randn(2, 6, WIDE)
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
    model(x, attention_mask=mask)
    balance, found = routing.balance(), routing.take()
    real = x[mask.bool()]
    probability = (real @ inputs[0].router.t()).softmax(-1)
    chosen = torch.zeros_like(probability).scatter(1, probability.topk(2).indices, 1.0)
    share = chosen.sum(0) / chosen.sum()
    assert found["usage"] == pytest.approx(share.tolist())
    torch.testing.assert_close(balance, 4 * (share * probability.mean(0)).sum(), atol=1e-5, rtol=1e-5)
    assert list(found["modules"]) == ["feed_forward"]


def test_a_copy_computes_with_experts_of_its_own():
    inputs, output = network(2, 3)
    RoutedFeedForward(inputs, output, top_k=2, scale=1.0, dropout=0.0)
    x = torch.randn(2, 5, WIDE)
    inputs[0](x)  # a forward pass that stopped half-way, as one that is computed again may
    *others, last = copy.deepcopy(nn.ModuleList([*inputs, output]))
    with torch.no_grad():
        for module in (*inputs, output):
            module.up.zero_()
    assert not torch.equal(called(others, last, x), called(inputs, output, x))


def test_a_pass_that_stopped_half_way_leaves_nothing_to_the_next_with_the_same_input():
    inputs, output = network(2, 3)
    RoutedFeedForward(inputs, output, top_k=2, scale=1.0, dropout=0.0)
    x = torch.randn(2, 5, WIDE)
    with torch.no_grad():
        inputs[0](x)
        inputs[0].router.neg_()
    found = called(inputs, output, x)
    assert torch.equal(found, called(inputs, output, x))
    found.square().sum().backward()
    assert inputs[0].router.grad.abs().max() > 0


def test_what_mixes_tokens_between_the_linears_is_refused():
    inputs, output = network(1, 3)
    RoutedFeedForward(inputs, output, top_k=2, scale=1.0, dropout=0.0)
    with pytest.raises(MethodError, match="must have a model that computes a feed-forward network from its first"):
        output(inputs[0](torch.randn(2, 5, WIDE)).mean(2))
