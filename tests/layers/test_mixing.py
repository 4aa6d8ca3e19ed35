"""Which rows a guest is computed for, and what is kept of the votes."""

import pytest
import torch

from molex_cli.layers import mixing
from molex_cli.layers.guest_vote import ChosenGuests
from molex_cli.layers.vote_pass import VoteSums


def rows_of(guest, **settings):
    guest = torch.tensor(guest)
    choice = ChosenGuests(guest, torch.ones_like(guest, dtype=torch.float32))
    groups = mixing.guest_rows(choice, 4, **{"skipped": None, "in_step": False, **settings})
    return {group.guest: None if group.rows is None else group.rows.tolist() for group in groups}


@pytest.mark.parametrize(
    ("guest", "settings", "expected"),
    [
        ([[2], [0], [2]], {}, {0: [1], 2: [0, 2]}),
        ([[2], [0], [2]], {"skipped": 2}, {0: [1]}),
        ([[3], [3]], {}, {3: None}),
        ([[3], [3]], {"skipped": 3}, {}),
        ([[0, 1], [1, 1]], {}, {0: [0], 1: None}),  # by token: a row counts for each guest of its tokens
    ],
)
def test_every_guest_has_the_rows_that_chose_it(guest, settings, expected):
    assert rows_of(guest, **settings) == expected


def test_a_guest_that_only_others_chose_gets_one_row(monkeypatch):
    monkeypatch.setattr(mixing.distributed, "all_reduce", lambda chosen: chosen + torch.tensor([0, 1, 0, 0]))
    assert rows_of([[2], [0]], in_step=True) == {0: [1], 1: [0], 2: [0]}


def test_all_rows_are_put_without_a_copy_and_some_where_they_belong():
    values, own = torch.zeros(3, 2), torch.ones(2, 2)
    some = mixing.GuestRows(1, torch.tensor([0, 2]))
    assert some.select(values + torch.arange(3)[:, None]).tolist() == [[0, 0], [2, 2]]
    assert some.put(values, own).tolist() == [[1, 1], [0, 0], [1, 1]]
    every = mixing.GuestRows(1, None)
    assert every.select(values) is values
    assert every.put(values, values) is values


@pytest.mark.parametrize("tokens", [1, 5])
def test_a_mixture_and_its_gradients_are_those_of_its_equation(tokens):
    torch.manual_seed(0)
    own, guest = (torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.rand(3, tokens, dtype=torch.float64, requires_grad=True)
    found = mixing.Mixture.apply(own, guest, weight)
    expected = (1 - weight[..., None]) * own + weight[..., None] * guest
    torch.testing.assert_close(found, expected)
    seen = torch.randn(3, 5, 2, dtype=torch.float64)
    for one, two in zip(
        *(torch.autograd.grad((each * seen).sum(), [own, guest, weight]) for each in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, two)


def test_packed_votes_keep_the_layout_that_stored_states_have():
    packed = torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64)  # two guests, entropy, margin, units
    sums = VoteSums.unpacked(packed)
    assert (sums.usage.tolist(), float(sums.entropy), float(sums.margin), float(sums.units)) == ([1, 2], 3, 4, 5)
    assert torch.equal(sums.packed(), packed)
