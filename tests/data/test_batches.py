"""The order of rows is a function of lengths, size, seed and epoch; encoding happens once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from molex_cli.data import encoding
from molex_cli.data.batches import collate, epoch_order, scoring_order, slices
from molex_cli.data.reading import Split
from molex_cli.models.byte_tokenizer import byte_tokenizer

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=300)


@given(lengths, st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_holds_every_row_once_in_full_batches(rows, size, seed, epoch):
    order = epoch_order(rows, size, seed, epoch)
    assert sorted(row for batch in order for row in batch) == list(range(len(rows)))
    assert sorted(len(batch) for batch in order)[1:] == [size] * (len(order) - 1)
    assert order == epoch_order(rows, size, seed, epoch)


def test_another_seed_or_epoch_is_another_order():
    rows = [1 + i % 50 for i in range(500)]
    orders = [epoch_order(rows, 16, seed, epoch) for seed, epoch in ((0, 0), (1, 0), (0, 1))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_bucketing_saves_most_of_the_padding():
    rows = np.random.default_rng(0).integers(5, 128, 4000).tolist()

    def padded(order):
        return sum(len(batch) * max(rows[row] for row in batch) for batch in order)

    random = [list(range(i, i + 16)) for i in range(0, 4000, 16)]
    assert padded(epoch_order(rows, 16, 0, 0)) < 1.1 * sum(rows) < padded(random) / 1.5


@given(lengths, st.integers(1, 40))
def test_scoring_reads_every_row_once(rows, size):
    order = scoring_order(rows, size)
    assert sorted(row for batch in order for row in batch) == list(range(len(rows)))


def test_parts_of_an_effective_batch_keep_its_order():
    assert [list(part) for part in slices([5, 3, 8, 1, 9], 2)] == [[5, 3], [8, 1], [9]]


def split(texts) -> Split:
    ids = [f"train:{i}" for i in range(len(texts))]
    return Split(ids, texts, [0] * len(texts), "test")


def test_a_batch_is_padded_to_its_longest_row(tmp_path):
    tokenizer = byte_tokenizer(64)
    encoded = encoding.encode(split([("ab", "c"), ("abcdef", "gh")]), tokenizer, 64, tmp_path)
    made = collate(encoded, [0, 1], tokenizer.pad_token_id)
    assert made["input_ids"].shape == (2, 11)
    assert made["attention_mask"].sum(1).tolist() == [6, 11]
    assert made["input_ids"][0, 6:].tolist() == [0] * 5
    assert made["token_type_ids"].sum(1).tolist() == [2, 3]
    assert collate(encoded, [0], tokenizer.pad_token_id, 20)["input_ids"].shape == (1, 20)


def test_rows_are_encoded_once_and_cached_by_content(tmp_path, monkeypatch):
    calls = []
    tokenised = encoding._tokenised
    monkeypatch.setattr(encoding, "_tokenised", lambda *a: calls.append(1) or tokenised(*a))
    rows, tokenizer = split([("one", "two"), ("three", "four")]), byte_tokenizer(64)
    first = encoding.encode(rows, tokenizer, 64, tmp_path)
    again = encoding.encode(rows, byte_tokenizer(64), 64, tmp_path)
    assert len(calls) == 1
    assert np.array_equal(first.tokens, again.tokens)
    encoding.encode(rows, tokenizer, 32, tmp_path)
    encoding.encode(split([("one", "two"), ("three", "five")]), tokenizer, 64, tmp_path)
    assert len(calls) == 3


def test_a_broken_cache_file_is_encoded_again(tmp_path):
    rows, tokenizer = split([("one", "two")]), byte_tokenizer(64)
    first = encoding.encode(rows, tokenizer, 64, tmp_path)
    (path,) = (tmp_path / "tokens").iterdir()
    path.write_bytes(path.read_bytes()[:40])
    assert np.array_equal(encoding.encode(rows, tokenizer, 64, tmp_path).tokens, first.tokens)


def test_a_long_pair_is_cut_to_max_length(tmp_path):
    encoded = encoding.encode(split([("a" * 500, "b" * 20)]), byte_tokenizer(64), 64, tmp_path)
    assert encoded.lengths == [64]
    assert (encoded.types == 1).sum() == 21
