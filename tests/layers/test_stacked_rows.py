"""Stacked parameters are one matrix without a copy, and are put together again when they come apart."""

import copy

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from molex_cli.layers.stacked_rows import ROW_MULTIPLE, StackedRows


def parts() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in ((3, 2, 5), (3, 2, 5), (3, 5))]


def assert_stacked(stacked: StackedRows, given: list[nn.Parameter]) -> None:
    found = stacked.tensor()
    rows = torch.cat([part.detach().flatten(0, -2) for part in given])
    assert len(found) % ROW_MULTIPLE == 0
    torch.testing.assert_close(found, nn.functional.pad(rows, (0, 0, 0, len(found) - len(rows))))
    assert found is stacked.tensor()


def test_what_is_trained_is_the_matrix_itself():
    given = parts()
    stacked = StackedRows(given)
    before = stacked.tensor()
    adam = torch.optim.AdamW(given, lr=0.1, fused=True)
    sum((part**3).sum() for part in given).backward()
    adam.step()
    assert stacked.tensor() is before
    assert_stacked(stacked, given)


def test_parameters_that_got_a_memory_of_their_own_are_put_together_again():
    given = parts()
    stacked = StackedRows(given)
    before = stacked.tensor()
    given[1].data = given[1].data.clone() + 1
    assert_stacked(stacked, given)
    assert stacked.tensor() is not before
    model = nn.ParameterList(given).to(torch.float64)
    assert [part.dtype for part in model] == [torch.float64] * 3
    assert_stacked(stacked, given)
    assert stacked.tensor().dtype == torch.float64


def test_a_copy_has_a_matrix_of_its_own():
    given = parts()
    stacked = StackedRows(given)
    stacked.tensor()
    other_given, other = copy.deepcopy((given, stacked))
    with torch.no_grad():
        other_given[0].zero_()
    assert_stacked(stacked, given)
    assert_stacked(other, other_given)
    assert given[0].abs().sum() > 0


def test_what_is_put_together_while_answering_can_be_trained():
    given = parts()
    stacked = StackedRows(given)
    with torch.inference_mode():
        stacked.tensor()
    (given[0] ** 2).sum().backward()
    assert not stacked.tensor().is_inference()


def test_stacked_parameters_are_saved_one_by_one(tmp_path):
    given = parts()
    StackedRows(given).tensor()
    save_file({str(i): part.detach() for i, part in enumerate(given)}, tmp_path / "saved.safetensors")
    saved = load_file(tmp_path / "saved.safetensors")
    assert all(torch.equal(saved[str(i)], part) for i, part in enumerate(given))
