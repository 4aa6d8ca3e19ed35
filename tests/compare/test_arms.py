"""Runs are seeds of one arm only if they were made from the same."""

from pathlib import Path

import pytest
from support.made_records import leave, table_of

from molex_cli.compare.loading import load

HARDWARE = {"device": "cpu", "precision": "fp32", "base": "fp32"}


def rows_of_table() -> dict[str, int]:
    """Return the number of runs in each row of a table of two seeds."""
    table = table_of(Path("outputs"))
    return {row: len(table.runs_of(row)) for row in table.rows}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"settings": {"hardware": HARDWARE | {"precision": "bf16"}}}, "hardware.precision=bf16"),
        ({"settings": {"hardware": HARDWARE | {"precision": "bf16", "base": "nf4"}}}, "hardware.base=nf4"),
        ({"data": {"train": {"fingerprint": "g"}}}, "rows of train=g"),
        ({"data": {"train": {"fingerprint": "f", "labels": ["a", "c"]}}}, "labels of train=a, c"),
        ({"base": {"fingerprint": "other"}}, "files of the base model=other"),
    ],
)
def test_what_decides_the_numbers_splits_an_arm(changed, name):
    before = {"data": {"train": {"fingerprint": "f", "labels": ["a", "b"]}}, "base": {"fingerprint": "one"}}
    leave(Path("outputs/a"), seed=0, **before)
    leave(Path("outputs/b"), seed=1, **before | changed)
    found = rows_of_table()
    assert list(found.values()) == [1, 1]
    assert any(name in row for row in found)


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"hardware": HARDWARE | {"device": "auto", "name": "auto"}}},
        {"settings": {"hardware": HARDWARE | {"device": "cuda", "jobs_per_device": 4}}},
        {"base": {"fingerprint": "known since"}, "data": {"train": {"fingerprint": "f", "labels": ["a", "b"]}}},
    ],
)
def test_where_seeds_ran_and_what_older_records_do_not_hold_split_no_arm(changed):
    leave(Path("outputs/a"), seed=0)
    leave(Path("outputs/b"), seed=1, **changed)
    assert list(rows_of_table().values()) == [2]


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"train": {"fingerprint": "f", "labels": {"a": 1, "c": 1}}}},
        {"base": {"fingerprint": "other"}},
    ],
)
def test_one_seed_made_from_two_things_is_no_second_try(changed):
    before = {"data": {"train": {"fingerprint": "f", "labels": {"a": 1, "b": 1}}}, "base": {"fingerprint": "one"}}
    leave(Path("outputs/a"), seed=0, **before)
    leave(Path("outputs/b"), seed=0, **before | changed)
    assert list(rows_of_table().values()) == [1, 1]


def test_examples_whose_rows_were_edited_are_not_paired():
    for method, rows in (("lora", "f"), ("mola", "g"), ("molex", "f")):
        leave(Path(f"outputs/{method}"), method, share=0.6, data={"validation": {"fingerprint": rows}})
    runs = {run.record.display["method"]: run.correctness("last")[0] for run in load([Path("outputs")]).runs}
    assert runs["LORA"] == runs["MOLEX"] != runs["MOLA"]
