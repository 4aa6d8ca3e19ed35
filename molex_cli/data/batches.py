"""Rows to batches: an order drawn from its own random stream, rows of like length together."""

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


def parts(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield the rows of an effective batch in parts of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@dataclass(frozen=True)
class Share:
    """What one process computes of one part of an effective batch."""

    part: int
    parts: int
    """Number of the part, and of all parts."""
    rows: Sequence[int]
    stand_in: bool = False
    """Whether the rows only keep this process in step with the others and count for nothing."""
    split: bool = False
    """Whether other processes have the part's other rows."""


def shares(rows: Sequence[int], size: int, rank: int, world: int) -> list[Share]:
    """Return the shares of one process: whole parts where they can be dealt out evenly, else its rows of every part.

    All processes get as many shares, so that those that wait for each other in a forward pass stay in step.
    """
    whole = list(parts(rows, size))
    count = len(whole)
    if count % world == 0:
        return [Share(number, count, whole[number]) for number in range(rank, count, world)]
    own = [part[rank::world] for part in whole]
    return [Share(i, count, mine or whole[i][:1], stand_in=not mine, split=True) for i, mine in enumerate(own)]


def collate(encoded: Encoded, rows: Sequence[int], pad_id: int, pad_to: int | None = None) -> dict[str, Tensor]:
    """Return rows of tokens as tensors: input_ids, attention_mask, ... [B, T], T the longest or at least `pad_to`."""
    pieces = [encoded.row(row) for row in rows]
    width = max(pad_to or 0, *(len(tokens) for tokens, _ in pieces))
    shape = (len(rows), width)
    batch = {
        "input_ids": torch.full(shape, pad_id, dtype=torch.long),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
    }
    if encoded.types.size:
        batch["token_type_ids"] = torch.zeros(shape, dtype=torch.long)
    for i, (tokens, types) in enumerate(pieces):
        batch["input_ids"][i, : len(tokens)] = torch.from_numpy(tokens)
        batch["attention_mask"][i, : len(tokens)] = 1
        if encoded.types.size:
            batch["token_type_ids"][i, : len(types)] = torch.from_numpy(types)
    return batch
