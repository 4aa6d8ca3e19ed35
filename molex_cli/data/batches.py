"""Rows to batches: an order drawn from its own random stream, rows of like length together.

The order is our own and not a DataLoader's: it depends on lengths, seed and epoch alone, so that all
arms see the same batches.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from molex_cli.data.encoding import Encoded
from molex_cli.runtime.hardware import stream_seed

POOL_BATCHES = 32  # rows are sorted by length within pools of this many batches


def epoch_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the rows of each effective batch of an epoch, a function of lengths, size, seed and epoch."""
    stream = random.Random(stream_seed(seed, f"data/{epoch}"))
    rows = list(range(len(lengths)))
    stream.shuffle(rows)
    pool = batch_size * POOL_BATCHES
    batches = []
    for start in range(0, len(rows), pool):
        near = sorted(rows[start : start + pool], key=lambda row: lengths[row])
        batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    stream.shuffle(batches)
    return batches


def scoring_order(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return rows in batches of like length, longest first, so that memory runs out at once or not at all."""
    rows = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]


def slices(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield the rows in runs of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@dataclass(frozen=True)
class Microbatch:
    """What one process computes of an effective batch in one forward pass.

    Ten rows at a batch size of 4 are three microbatches: 0 to 3, 4 to 7, 8 and 9. Two processes cannot take three
    whole ones evenly, so they split each: the first process has the rows [0, 2], [4, 6], [8], the second [1, 3],
    [5, 7], [9]. Eight rows are two microbatches, and each process takes one whole. Nine rows leave the second process
    without a row of the last: it computes row 8 as a dummy, whose loss counts for nothing.
    """

    index: int
    """Which microbatch of the effective batch."""
    count: int
    """How many the effective batch has."""
    rows: Sequence[int]
    is_dummy: bool = False
    """Whether the rows only keep this process in step with the others."""
    is_split: bool = False
    """Whether other processes have its other rows."""


def microbatches(rows: Sequence[int], size: int, rank: int, world: int) -> list[Microbatch]:
    """Return what one process computes of an effective batch: whole microbatches where they come out even.

    All processes get as many, so that those that wait for each other in a forward pass stay in step.
    """
    whole = list(slices(rows, size))
    count = len(whole)
    if count % world == 0:
        return [Microbatch(index, count, whole[index]) for index in range(rank, count, world)]
    own = [each[rank::world] for each in whole]
    return [Microbatch(i, count, mine or whole[i][:1], not mine, is_split=True) for i, mine in enumerate(own)]


def collate(encoded: Encoded, rows: Sequence[int], pad_id: int, pad_to: int | None = None) -> dict[str, Tensor]:
    """Return rows of tokens as tensors: input_ids, attention_mask, ... [B, T], T the longest or at least `pad_to`."""
    encoded_rows = [encoded.row(row) for row in rows]
    width = max(pad_to or 0, *(len(tokens) for tokens, _ in encoded_rows))
    shape = (len(rows), width)
    batch = {
        "input_ids": torch.full(shape, pad_id, dtype=torch.long),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
    }
    if encoded.types.size:
        batch["token_type_ids"] = torch.zeros(shape, dtype=torch.long)
    for i, (tokens, types) in enumerate(encoded_rows):
        batch["input_ids"][i, : len(tokens)] = torch.from_numpy(tokens)
        batch["attention_mask"][i, : len(tokens)] = 1
        if encoded.types.size:
            batch["token_type_ids"][i, : len(types)] = torch.from_numpy(types)
    return batch
