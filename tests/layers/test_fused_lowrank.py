"""The stacked product equals a plain loop over experts, outputs and all gradients."""

import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from molex_cli.layers.experts import FusedLinears, LowRankExperts
from molex_cli.layers.fused_lowrank import _mask_of_16_bits, _mask_of_torch, drop_probability, keep_mask
from molex_cli.layers.reference import LoopExperts
from molex_cli.layers.routing_statistics import LayerRouting, TokenWeights

TOLERANCE = 1e-5


def members(count: int, num_experts: int, base: str = "linear", bias: bool = True) -> list[LowRankExperts]:
    torch.manual_seed(count + num_experts)
    made = []
    for _ in range(count):
        linear = nn.Linear(12, 10, bias=bias) if base == "linear" else Conv1D(10, 12)
        linear.requires_grad_(False)
        experts = LowRankExperts(linear, (12, 10), num_experts, rank=3)
        nn.init.normal_(experts.up)
        made.append(experts)
    return made


def outputs_and_gradients(call, modules: list[LowRankExperts], x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_(True)
    outputs = call(x)
    parameters = [p for m in modules for p in (m.down, m.up, m.router) if p is not None]
    loss = sum((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum() for y in outputs)
    return [*(y.detach() for y in outputs), *torch.autograd.grad(loss, [x, *parameters])]


@pytest.mark.parametrize("base", ["linear", "conv1d"])
@pytest.mark.parametrize("num_linears", [1, 3])
@pytest.mark.parametrize(("num_experts", "top_k"), [(5, 2), (4, 4), (2, 2), (3, 1), (1, 1)])
def test_the_fast_path_equals_the_loop(base, num_linears, num_experts, top_k):
    modules = members(num_linears, num_experts, base)
    FusedLinears(modules, top_k=top_k, scale=2.0, dropout=0.0)
    loops = [LoopExperts(m, top_k=top_k, scale=2.0, dropout=0.0) for m in modules]
    x = torch.randn(4, 7, 12)
    fast = outputs_and_gradients(lambda x: [m(x) for m in modules], modules, x)
    slow = outputs_and_gradients(lambda x: [loop(x) for loop in loops], modules, x)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=TOLERANCE)


def test_experts_that_nobody_chose_get_a_zero_gradient_and_change_nothing():
    (module,) = members(1, 4)
    with torch.no_grad():
        module.router[:] = 0.0
        module.router[:2, 0] = 10.0
    FusedLinears([module], top_k=2, scale=1.0, dropout=0.0)
    x = torch.rand(6, 5, 12) + 0.5
    loop = LoopExperts(module, top_k=2, scale=1.0, dropout=0.0)
    fast = outputs_and_gradients(lambda x: [module(x)], [module], x)
    slow = outputs_and_gradients(lambda x: [loop(x)], [module], x)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=TOLERANCE)
    grad_down, grad_up = fast[2], fast[3]
    assert grad_down[2:].abs().max() == 0
    assert grad_up[2:].abs().max() == 0


def test_a_base_that_is_no_plain_linear_gets_the_update_added():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    (module,) = members(1, 3)
    doubled = Doubled(12, 10).requires_grad_(False)
    doubled.load_state_dict(module.base.state_dict())
    FusedLinears([module], top_k=2, scale=1.0, dropout=0.0)
    x = torch.randn(2, 5, 12)
    plain = module(x) - module.base(x)
    module.base = doubled
    torch.testing.assert_close(module(x), doubled(x) + plain)


def test_dropout_is_on_the_input_of_the_update_only_and_keeps_its_mean():
    (module,) = members(1, 3)
    FusedLinears([module], top_k=2, scale=1.0, dropout=0.5)
    x, draws = torch.randn(1, 4, 12), 4000
    expected = module.eval()(x)
    # The router reads x undropped: the same experts, W = sum of gate * A B for each token, whatever is dropped.
    probability = torch.softmax(x @ module.router.t(), -1)
    chosen = torch.where(probability >= probability.topk(2).values[..., -1:], probability, 0.0)
    gates = chosen / chosen.sum(-1, keepdim=True)
    update = torch.einsum("bte,eri,ero->btio", gates, module.down, module.up)
    torch.testing.assert_close(module.base(x) + (x.unsqueeze(-2) @ update).squeeze(-2), expected)
    module.train()
    mean = torch.stack([module(x.clone()) for _ in range(draws)]).mean(0)
    # Each x_i W_io is doubled or dropped at even odds: its variance is its square.
    standard_error = ((x.unsqueeze(-1) * update) ** 2).sum(-2).div(draws).sqrt()
    assert ((mean - expected).abs() <= 5 * standard_error).all()
    with torch.no_grad():
        module.up.zero_()
    torch.testing.assert_close(module(x), module.base(x))


def test_gradients_under_dropout_are_those_of_the_mask_that_was_drawn():
    (module,) = members(1, 3)
    FusedLinears([module], top_k=2, scale=1.0, dropout=0.25)
    x = torch.randn(3, 4, 12)

    def update(x):
        torch.manual_seed(5)
        return [module(x)]

    def by_hand(x):
        torch.manual_seed(5)
        keep = keep_mask(x.reshape(-1, 12), 0.25).view(x.shape)
        loop = LoopExperts(module, top_k=2, scale=1.0, dropout=0.0)
        del loop.dropout
        loop.dropout = lambda x: x * keep / 0.75
        return [loop(x)]

    fast = outputs_and_gradients(update, [module], x)
    for one, other in zip(fast, outputs_and_gradients(by_hand, [module], x), strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("draw", [_mask_of_16_bits, _mask_of_torch])
@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5])
def test_the_mask_drops_the_share_it_says(draw, probability):
    torch.manual_seed(0)
    kept = draw(torch.empty(1000, 1001), probability)
    assert kept.dtype == torch.bool
    assert float(kept.float().mean()) == pytest.approx(1 - probability, abs=2e-3)
    assert drop_probability(probability, torch.device("cpu")) == pytest.approx(probability, abs=1e-5)
    assert drop_probability(probability, torch.device("cuda")) == probability


def test_a_compiled_mask_drops_the_share_it_says_in_one_graph():
    torch.manual_seed(0)
    draw = torch.compile(keep_mask, backend="eager", fullgraph=True)
    assert [float(draw(torch.empty(1000, 1001), 0.1).float().mean()) for _ in range(2)] == pytest.approx(
        [0.9, 0.9], abs=2e-3
    )


def test_a_cpu_draws_16_bits_an_element_and_another_device_as_torch_does():
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(7, 9), 0.3)
    torch.manual_seed(0)
    assert torch.equal(mask, _mask_of_16_bits(torch.empty(7, 9), 0.3))
    assert keep_mask(torch.empty(7, 9, device="meta"), 0.3).dtype == torch.bool


def test_linears_that_share_an_input_are_computed_once_and_others_still_right():
    modules = members(3, 4)
    together = FusedLinears(modules, top_k=2, scale=1.0, dropout=0.0)
    calls = []
    compute = together._compute
    together._compute = lambda x: calls.append(x) or compute(x)
    x, other = torch.randn(2, 3, 12), torch.randn(2, 3, 12)
    shared = [m(x) for m in modules]
    assert len(calls) == 1
    alone = [modules[0](x), modules[1](other), modules[2](x)]
    torch.testing.assert_close(alone[0], shared[0])
    torch.testing.assert_close(alone[2], shared[2])
    torch.testing.assert_close(alone[1], LoopExperts(modules[1], top_k=2, scale=1.0, dropout=0.0)(other))


def test_a_pass_that_stopped_half_way_leaves_nothing_to_the_next_or_to_a_copy():
    modules = members(3, 3)
    FusedLinears(modules, top_k=2, scale=1.0, dropout=0.0)
    x = torch.randn(2, 5, 12)
    before = [module(x).detach() for module in modules]
    modules[0](x)
    copied = copy.deepcopy(nn.ModuleList(modules))
    with torch.no_grad():
        for module in modules:
            module.up.neg_()
    after = [module(x) for module in modules]
    assert all(torch.equal(module(x), one) for module, one in zip(copied, before, strict=True))
    for module, one, other in zip(modules, before, after, strict=True):
        torch.testing.assert_close(one + other, 2 * module.base(x), atol=TOLERANCE, rtol=TOLERANCE)


def test_an_untrained_module_leaves_the_output_unchanged():
    linear = nn.Linear(12, 10)
    module = LowRankExperts(linear, (12, 10), 4, rank=3)
    FusedLinears([module], top_k=2, scale=1.0, dropout=0.0)
    x = torch.randn(2, 3, 12)
    torch.testing.assert_close(module(x), linear(x))


def test_autocast_computes_in_bfloat16_and_trains_float32_parameters():
    modules = members(2, 4)
    FusedLinears(modules, top_k=2, scale=1.0, dropout=0.1)
    x = torch.randn(2, 5, 12, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = [m(x) for m in modules]
    assert {y.dtype for y in outputs} == {torch.bfloat16}
    sum(y.float().sum() for y in outputs).backward()
    assert modules[0].down.grad.dtype == torch.float32
    assert modules[0].router.grad.abs().sum() > 0


def test_the_backward_keeps_the_input_once_however_many_linears_share_it():
    modules = members(3, 4)
    FusedLinears(modules, top_k=2, scale=1.0, dropout=0.1)
    x = torch.randn(16, 64, 12, requires_grad=True)
    saved: dict[int, int] = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = [m(x) for m in modules]
    assert len(outputs) == 3
    tokens, ranks = 16 * 64, 3 * 4 * 3
    frozen = sum(p.numel() * 4 for m in modules for p in m.parameters())
    once = tokens * 12 * (4 + 1)
    assert sum(saved.values()) <= once + tokens * (2 * (ranks + 16) + 3 * 4 + 4) * 4 + 2 * frozen


def test_usage_and_balance_count_real_tokens_only():
    (module,) = members(1, 4)
    weights = TokenWeights(count_padding=False)
    routing = LayerRouting(4, 2, weights)
    FusedLinears([module], top_k=2, scale=1.0, dropout=0.0, routing=routing)
    model = nn.Module()
    model.inner = module
    model.forward = lambda x, attention_mask=None: module(x)
    weights.watch(model)
    x = torch.randn(2, 5, 12)
    model(x, attention_mask=torch.ones(2, 5))
    balance, usage = routing.balance(), routing.take()["usage"]
    padded = torch.cat([x, 50 * torch.randn(2, 6, 12)], dim=1)
    mask = torch.cat([torch.ones(2, 5), torch.zeros(2, 6)], dim=1)
    model(padded, attention_mask=mask)
    torch.testing.assert_close(routing.balance(), balance)
    assert routing.take()["usage"] == pytest.approx(usage)
    assert sum(usage) == pytest.approx(1.0)
