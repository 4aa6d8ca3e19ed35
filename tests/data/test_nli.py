"""The built-in grammar task: its splits, and that no shortcut tells its labels."""

import hashlib
import json
import random
from collections import Counter, defaultdict

import pytest

from molex_cli.data import nli as grammar
from molex_cli.errors import DataError

SPLITS = ("train", "validation", "development")
CONTENT = (grammar.NOUNS, grammar.ACTIONS)


def words(sentence: str) -> list[str]:
    """Return the words of a sentence."""
    return sentence.split()


def fitted(values: list[object], labels: list[str]) -> float:
    """Return the accuracy of the best guess from one feature, fitted on the rows it is measured on."""
    seen: dict[object, Counter[str]] = defaultdict(Counter)
    for value, label in zip(values, labels, strict=True):
        seen[value][label] += 1
    return sum(max(counts.values()) for counts in seen.values()) / len(labels)


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_its_size_and_balanced_labels(split: str) -> None:
    rows = grammar.rows(split)
    assert len(rows) == grammar.SIZES[split]
    assert Counter(row["label"] for row in rows) == {grammar.YES: len(rows) // 2, grammar.NO: len(rows) // 2}


def test_no_row_occurs_twice_within_or_across_splits() -> None:
    pairs = [(row["premise"], row["hypothesis"]) for split in SPLITS for row in grammar.rows(split)]
    assert len(set(pairs)) == len(pairs)


def test_rows_are_the_same_whatever_the_run_seed() -> None:
    random.seed(1)
    first = grammar.rows("train")
    random.seed(2)
    assert grammar.rows("train") == first


def test_rows_are_the_ones_that_were_measured() -> None:
    text = json.dumps([grammar.rows(split) for split in SPLITS])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "bbe7fc727698e859"


def test_splits_share_no_content_word() -> None:
    content = {split: {word for table in CONTENT for word in table[split].split()} for split in SPLITS}
    used = {s: {w for row in grammar.rows(s) for w in words(row["premise"] + " " + row["hypothesis"])} for s in SPLITS}
    function = set.intersection(*used.values())
    for split in SPLITS:
        assert used[split] - function <= content[split]
        assert not function & content[split]
        assert not any(content[split] & content[other] for other in SPLITS if other != split)


@pytest.mark.parametrize("split", SPLITS)
def test_length_and_word_overlap_say_nothing_about_the_label(split: str) -> None:
    rows = grammar.rows(split)
    labels = [row["label"] for row in rows]
    assert fitted([len(words(row["hypothesis"])) for row in rows], labels) <= 0.53
    # Words of the hypothesis that the premise has: how many, and how many of how many.
    shared = [len(set(words(row["hypothesis"])) & set(words(row["premise"]))) for row in rows]
    assert fitted(shared, labels) <= 0.53
    assert fitted([(n, len(words(row["hypothesis"]))) for n, row in zip(shared, rows, strict=True)], labels) <= 0.53


@pytest.mark.parametrize("split", SPLITS)
def test_hypothesis_words_alone_are_near_chance(split: str) -> None:
    rows = grammar.rows(split)
    # A naive vote of the hypothesis' words, counted on other premises' rows (a premise's two rows stay together).
    half = len(rows) // 4 * 2
    hits = 0
    for known, asked in ((rows[:half], rows[half:]), (rows[half:], rows[:half])):
        votes: Counter[str] = Counter()
        for row in known:
            votes.update({word: 1 if row["label"] == grammar.YES else -1 for word in words(row["hypothesis"])})
        for row in asked:
            guess = sum(votes[word] for word in words(row["hypothesis"])) > 0
            hits += guess == (row["label"] == grammar.YES)
    assert abs(hits / len(rows) - 0.5) <= 0.1


@pytest.mark.parametrize("split", SPLITS)
def test_the_order_of_the_two_kinds_says_nothing_about_the_label(split: str) -> None:
    nouns = set(grammar.NOUNS[split].split())
    rows = grammar.rows(split)
    first = [next(w for w in words(row["premise"]) if w in nouns) in words(row["hypothesis"]) for row in rows]
    assert fitted(list(first), [row["label"] for row in rows]) <= 0.56


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'test'.*train, validation, development"):
        grammar.rows("test")
