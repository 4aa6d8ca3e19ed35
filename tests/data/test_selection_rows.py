"""Training rows that are set apart to choose the best evaluation: the same for every arm and seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molex_cli.config.task import Kind, Task
from molex_cli.data.reading import read
from molex_cli.data.selection import Selection, divided
from molex_cli.errors import DataError

TASK = Task(name="t", kind=Kind.classification, columns=["text"])


def rows_of(labels):
    return [(f"train:{i}", (f"text {i}",), (), label) for i, label in enumerate(labels)]


def split_of(labels, size, seed=0, task=TASK):
    rows = labels if labels and isinstance(labels[0], tuple) else rows_of(labels)
    return divided(rows, Selection(size, seed), "all.csv", task)


@given(st.lists(st.integers(0, 3), min_size=40, max_size=200), st.floats(0.1, 0.5), st.integers(0, 5))
def test_every_row_is_on_one_side_and_every_class_has_its_share(labels, size, seed):
    train, selected = split_of(labels, size, seed)
    assert sorted([*train, *selected]) == sorted(rows_of(labels))
    assert abs(len(selected) - size * len(labels)) <= 1.01
    total, taken = Counter(labels), Counter(row[3] for row in selected)
    share = len(selected) / len(labels)  # near the size, which may be no number of rows
    assert all(abs(taken[label] - share * count) <= 1.01 for label, count in total.items())


def test_which_rows_is_drawn_by_a_seed_of_its_own():
    labels = [i % 2 for i in range(100)]
    assert split_of(labels, 0.2, 1) == split_of(labels, 0.2, 1)
    assert split_of(labels, 0.2, 1) != split_of(labels, 0.2, 2)


def test_a_number_of_rows_is_a_number_of_rows():
    assert len(split_of([i % 2 for i in range(100)], 30.0)[1]) == 30


def test_a_number_of_rows_is_reached_whatever_the_rows_of_one_text():
    rows = [(f"train:{i}", (f"text {i // 2}",), (), i // 2 % 3) for i in range(120)]
    train, selected = split_of(rows, 30.0)
    assert len(selected) == 30
    assert not {row[1] for row in train} & {row[1] for row in selected}


@given(st.lists(st.integers(0, 9), min_size=30, max_size=60), st.integers(1, 15), st.integers(0, 3))
def test_a_class_keeps_rows_to_train_on(labels, size, seed):
    train, selected = split_of(labels, float(size), seed)
    assert {row[3] for row in train} == set(labels)
    assert len(selected) == size


@pytest.mark.parametrize(("choices", "is_even"), [(None, True), ("choices", False)])
def test_fixed_labels_of_multiple_choice_are_classes_and_a_rows_own_choices_are_none(choices, is_even):
    task = Task(name="t", kind=Kind.multiple_choice, columns=["text"], labels=["no", "yes"], choices=choices)
    taken = [Counter(row[3] for row in split_of([i % 2 for i in range(80)], 0.5, seed, task)[1]) for seed in range(9)]
    assert all(each[0] == each[1] for each in taken) is is_even


@pytest.mark.parametrize(("size", "texts"), [(0.3, 6), (5.0, 5)])
def test_texts_to_write_count_once_and_stay_together(size, texts):
    task = Task(name="t", kind=Kind.generation, columns=["text"])
    rows = [(f"train:{i}", (f"text {i // 3}",), (), (f"written {i}",)) for i in range(60)]
    train, selected = split_of(rows, size, task=task)
    assert len(selected) == texts
    assert not {row[1] for row in train} & {row[1] for row in selected}
    assert all(len(row[3]) == 3 for row in selected)  # all that may be written is a reference


@pytest.mark.parametrize("size", [0.001, 0.999, 10.0, 50.0])
def test_both_sides_need_rows(size):
    with pytest.raises(DataError, match=r"train\.selection must leave rows to train on and to select, got"):
        split_of([0, 1] * 5, size)


def test_without_a_selection_the_splits_are_what_they_were(experiment):
    task = experiment().task
    plain, _ = read(task, None, 64)
    divided_, _ = read(task, None, 64, Selection(0.25))
    assert set(plain) == {"train", "validation"}
    assert divided_["validation"] == plain["validation"]
    assert sorted(divided_["train"].ids + divided_["selection"].ids) == sorted(plain["train"].ids)
    assert len(divided_["selection"].ids) == 16
