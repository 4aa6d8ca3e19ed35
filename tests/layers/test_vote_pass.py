"""Votes of all mixing layers counted together are what each layer's are alone."""

import copy

import pytest
import torch
from conftest import batch
from support.mixing import spread
from torch.utils.checkpoint import checkpoint

from molex_cli.layers.guest_vote import BATCH, GATE, NONE, SEQUENCE, STRAIGHT_THROUGH, TOKEN, GuestVote
from molex_cli.layers.routing import balance_loss
from molex_cli.layers.routing_statistics import TokenWeights
from molex_cli.layers.vote_pass import VotePass, VoteSums

GUESTS = [[0, 1, 2, 3], [2, 3], [1], [0, 1, 2, 3]]
LEVELS = [BATCH, SEQUENCE, TOKEN]
MASK = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])  # the last row has no voter


class Opened:
    """Layers whose votes of one forward pass are open."""

    def __init__(self, level, guests=GUESTS, *, balanced=True):
        self.tokens = TokenWeights(count_padding=False)
        self.layers = [
            GuestVote(layer, each, 4, level, self.tokens, balanced=balanced) for layer, each in enumerate(guests)
        ]

    def passed(self, all_logits, router_gradient=NONE, weight=None):
        """Return the choices for these logits, counted."""
        self.tokens.before(None, (), {"attention_mask": MASK})
        weight = torch.ones(1) if weight is None else weight
        pairs = zip(self.layers, all_logits, strict=True)
        choices = [layer.choose(logits, weight, router_gradient) for layer, logits in pairs]
        self.tokens.after(None, (), choices)
        return choices


def random_logits(seed=0):
    torch.manual_seed(seed)
    return [torch.randn(3, 6, 4, requires_grad=True) for _ in GUESTS]


def units(logits_BTE, level):
    """Yield the logits of the tokens that choose together, unit by unit, where any counts."""
    rows = [row[mask.bool()] for row, mask in zip(logits_BTE, MASK, strict=True)]
    together = {BATCH: [torch.cat(rows)], SEQUENCE: rows, TOKEN: torch.cat(rows)[:, None].unbind()}[level]
    return [unit for unit in together if len(unit)]


def alone(logits, guests, level):
    """Return sums, winners and mean probabilities of one layer, unit by unit."""
    usage, margin, won, means = torch.zeros(len(guests)), 0.0, [], []
    every = units(logits[..., guests], level)
    for unit in every:
        ballots = torch.bincount(unit.argmax(-1), minlength=len(guests)).float()
        won.append(int(ballots.argmax()))
        usage[won[-1]] += 1
        top = ballots.sort(descending=True).values
        margin += float((top[0] - top[1]) / ballots.sum()) if len(guests) > 1 else 1.0
        means.append(unit.softmax(-1).mean(0))
    probability = torch.cat(every).detach().softmax(-1)
    entropy = -(probability * probability.log()).sum(-1).mean() * len(every)
    return [*usage.tolist(), float(entropy), margin, float(len(every))], won, torch.stack(means)


@pytest.mark.parametrize("level", LEVELS)
def test_sums_of_a_pass_are_those_of_each_layer_alone(level):
    opened, all_logits = Opened(level), random_logits()
    opened.passed(all_logits)
    for layer, logits in zip(opened.layers, all_logits, strict=True):
        assert layer.sums().tolist() == pytest.approx(alone(logits, layer.guests, level)[0], abs=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_balance_losses_and_their_gradients_are_those_of_each_layer_alone(level):
    opened, all_logits = Opened(level), random_logits(1)
    opened.passed(all_logits)
    found = opened.tokens.voted.balances()
    for number, (layer, logits) in enumerate(zip(opened.layers, all_logits, strict=True)):
        sums, _, means = alone(logits, layer.guests, level)
        expected = balance_loss(torch.tensor(sums[:-3]) / sums[-1], means.mean(0))
        torch.testing.assert_close(found[number], expected)
        torch.testing.assert_close(layer.balance(), found[number])
        one, two = (torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (found[number], expected))
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("router_gradient", [STRAIGHT_THROUGH, GATE])
def test_the_weight_has_the_gradient_of_the_mean_probability_of_the_chosen(level, router_gradient):
    opened, all_logits = Opened(level), random_logits(2)
    weight = torch.tensor([0.3], requires_grad=True)
    choices = opened.passed(all_logits, router_gradient, weight)
    for layer, logits, choice in zip(opened.layers, all_logits, choices, strict=True):
        _, won, means = alone(logits, layer.guests, level)
        p = means[range(len(won)), won]
        of = MASK.bool() if level == TOKEN else torch.tensor([[True], [True], [False]])
        found = choice.weight[of] if level != BATCH else choice.weight[0]
        factor = torch.arange(1.0, len(p) + 1)
        value = torch.ones_like(p) if router_gradient == STRAIGHT_THROUGH else p
        torch.testing.assert_close(found.detach(), 0.3 * value.detach())
        one = torch.autograd.grad((factor * found).sum(), [logits, weight], retain_graph=True)
        torch.testing.assert_close(one[0], torch.autograd.grad((factor * 0.3 * p).sum(), logits)[0])
        assert float(one[1]) == pytest.approx(float((factor * value.detach()).sum()))


def test_sums_are_taken_and_restored_layer_by_layer():
    opened, resumed = Opened(SEQUENCE), Opened(SEQUENCE)
    opened.passed(random_logits(3))
    for before, after in zip(opened.layers, resumed.layers, strict=True):
        after.restore(before.sums())
    for each in (opened, resumed):
        each.passed(random_logits(4))
    for one, two in zip(opened.layers, resumed.layers, strict=True):
        assert torch.equal(one.sums(), two.sums())
    assert opened.layers[1].take()["usage"][:2] == [0, 0]
    assert opened.layers[1].sums() is None
    assert float(opened.layers[0].sums()[-1]) == 4


@pytest.mark.parametrize("level", LEVELS)
def test_votes_are_counted_in_full_precision_under_autocast(level):
    counted, losses = [], []
    for enabled in (False, True):
        opened = Opened(level)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            opened.passed(random_logits(6))
            losses.append(opened.tokens.voted.balances())
        counted.append([layer.sums().tolist() for layer in opened.layers])
    assert counted[0] == counted[1]
    assert torch.equal(*losses)


def test_balance_losses_lie_by_layer_whatever_the_order_of_the_votes():
    opened, all_logits = Opened(SEQUENCE, [[0, 1, 2, 3]] * 2), random_logits(7)[:2]
    opened.passed(all_logits)
    expected = opened.tokens.voted.balances()
    opened.layers.reverse()
    opened.passed(all_logits[::-1])
    torch.testing.assert_close(opened.tokens.voted.balances(), expected)


@pytest.mark.parametrize("level", LEVELS)
def test_a_layer_can_be_left_out_that_is_no_guest_of_its_own(level):
    vote = GuestVote(3, [0, 1], 4, level, TokenWeights(count_padding=False), balanced=False)
    with vote.without():
        choice = vote.choose(random_logits()[0], torch.ones(1), NONE)
    assert choice.guest.eq(3).all()


def test_a_pass_that_fails_or_does_not_count_leaves_nothing():
    opened = Opened(SEQUENCE)
    opened.tokens.before(None, (), {"attention_mask": MASK})
    opened.layers[0].choose(random_logits()[0], torch.ones(1), NONE)
    opened.tokens.after(None, (), None)
    assert opened.layers[0].sums() is None
    assert not opened.tokens.voted._logits, "the graph of a failed pass would fill the memory until the next"
    opened.tokens.silent = True
    opened.passed(random_logits())
    assert opened.layers[0].sums() is None
    assert opened.tokens.voted.balances().detach().eq(0).all()


def test_a_layer_that_was_not_called_has_no_balance_loss():
    opened = Opened(SEQUENCE)
    opened.tokens.before(None, (), {"attention_mask": MASK})
    opened.layers[3].choose(random_logits()[3], torch.ones(1), NONE)
    found = opened.tokens.voted.balances()
    assert found[3] > 0
    assert found[:3].eq(0).all()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_pass_is_counted_once_however_often_it_is_computed(adapted, checkpointed):
    made = spread(adapted("method=molex", "method.alpha=0.6", "method.balance=0.1"))
    plain = copy.deepcopy(made)
    if checkpointed:
        for block in made.backbone.blocks:
            block.forward = again(block.forward)
    for each in (made, plain):
        (each.model(**batch(num_rows=3)).loss + each.auxiliary_loss()).backward()
    for layer, vote in made.routers.items():
        assert float(vote.sums()[-1]) == 3
        assert torch.equal(vote.sums(), plain.routers[layer].sums())
    for (name, one), two in zip(made.trainable().items(), plain.trainable().values(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, msg=name)


@pytest.mark.parametrize("level", LEVELS)
def test_two_passes_before_one_backward_give_the_gradients_of_each(adapted, level):
    made = spread(adapted("method=molex", "method.alpha_form=sigmoid", "method.balance=0.1", f"method.level={level}"))
    made.model.eval()

    def loss(length):
        return made.model(**batch(num_rows=3, length=length)).loss + made.auxiliary_loss()

    def gradients():
        found = [each.grad for each in made.trainable().values()]
        made.model.zero_grad()
        return found

    for length in (6, 9):
        loss(length).backward()
    one_by_one = gradients()
    (loss(6) + loss(9)).backward()
    torch.testing.assert_close(gradients(), one_by_one)


def again(forward):
    return lambda *args, **kwargs: checkpoint(forward, *args, use_reentrant=False, **kwargs)


def test_what_a_graph_keeps_of_the_votes_holds_no_graph(adapted):
    """Else the tensors of a forward pass would wait for the garbage collector."""
    opened, all_logits = Opened(SEQUENCE, balanced=False), random_logits(5)
    opened.passed([2 * logits for logits in all_logits], STRAIGHT_THROUGH)
    (votes, *_) = opened.tokens.voted._votes.values()
    kept = [value for value in vars(votes).values() if isinstance(value, list)]
    assert not any(each.requires_grad for those in kept for each in those if isinstance(each, torch.Tensor))


def test_restored_sums_of_fewer_guests_are_given_back_as_they_were():
    opened = Opened(SEQUENCE)
    sums = VoteSums.unpacked(torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64))
    opened.layers[1].restore(sums.packed())
    assert opened.layers[1].sums().tolist() == [1, 2, 3, 4, 5]
    assert isinstance(copy.deepcopy(opened.tokens.voted), VotePass)
