"""What an objective is: from rows to batches, from batches to a loss, from a model to scores."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from molex_cli.data.batches import collate, parts, scoring_order
from molex_cli.data.encoding import Encoded
from molex_cli.data.reading import Split
from molex_cli.methods.base import Adapted
from molex_cli.runtime import distributed

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Predictions:
    """What a model said of a split: one line for each example, its scores, and its loss."""

    rows: list[dict[str, Any]]
    """id, label, prediction, and what led to it."""
    scores: dict[str, float]
    loss: float
    reasons: tuple[str, ...] = ()
    """What the answer mode found wrong."""

    def doubts(self) -> list[str]:
        """Return the reasons not to trust the scores: undefined, constant predictions, what the answer mode found."""
        found = [f"{name} is undefined" for name, value in self.scores.items() if math.isnan(value)]
        if len(self.rows) > 1 and len({str(row["prediction"]) for row in self.rows}) == 1:
            found.append("all predictions are the same")
        return [*found, *self.reasons]


class Objective(Protocol):
    """One way to train a model on a task and to score it."""

    answer_mode: str
    """How the model is asked, for the record."""

    def encode(self, split: Split, tokenizer: Any, max_length: int, cache_dir: Path, *, training: bool) -> Encoded:
        """Return the split as tokens."""

    def batch(self, encoded: Encoded, examples: Sequence[int], pad_id: int, pad_to: int | None) -> Batch:
        """Return some examples as tensors."""

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""

    def weight(self, batch: Batch) -> int:
        """Return over how many things `loss` is a mean."""

    def values(self, adapted: Adapted, encoded: Encoded, batch_size: int, device: torch.device) -> Tensor:
        """Return the numbers that the scores come from, one line for each row of tokens, on the CPU."""

    def predictions(
        self, adapted: Adapted, encoded: Encoded, names: Sequence[str], batch_size: int, device: torch.device
    ) -> Predictions:
        """Score a split with the named metrics."""

    def baseline(self, names: Sequence[str], train: Encoded, encoded: Encoded) -> dict[str, float]:
        """Return the scores of always giving the answer that is most frequent in training."""


def scoring_batches(adapted: Adapted, encoded: Encoded, batch_size: int) -> list[Sequence[int]]:
    """Return examples in batches: of like length, or in order where the batch decides what is predicted."""
    if adapted.batch_dependent:
        return list(parts(range(len(encoded.ids)), batch_size))
    return list(scoring_order(encoded.lengths, batch_size))


def dealt(adapted: Adapted, batches: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
    """Yield this process's batches; one that has fewer than others takes one twice, to stay in step with them."""
    rank, world = distributed.rank(), distributed.world_size()
    yield from batches[rank::world]
    if rank >= len(batches) % world > 0:
        with adapted.uncounted():
            yield batches[0]


@torch.no_grad()
def head_outputs(adapted: Adapted, encoded: Encoded, batch_size: int, device: torch.device) -> Tensor:
    """Return what the head says of every row of tokens: [rows, outputs], float32, on the CPU."""
    adapted.model.eval()
    rows: list[int] = []
    found: list[Tensor] = []
    for examples in dealt(adapted, scoring_batches(adapted, encoded, batch_size)):
        part = encoded.rows_of(examples)
        batch = collate(encoded, part, adapted.backbone.tokenizer.pad_token_id, adapted.pad_to)
        found.append(adapted.model(**on(device, batch)).logits.float().cpu())
        rows += part
    return in_order(found, rows)


def in_order(found: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """Return lines that all processes together computed for all rows, in the order of the rows."""
    lines = torch.cat(distributed.all_gather([torch.cat(list(found))]))
    place: dict[int, int] = {}
    for position, row in enumerate(distributed.all_gather(rows)):
        place.setdefault(row, position)  # a batch that only kept a process in step comes after the real one
    return lines[torch.tensor([place[row] for row in range(len(place))])]


def on(device: torch.device, batch: Batch) -> Batch:
    """Return the batch on the device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def for_model(adapted: Adapted, batch: Batch) -> Batch:
    """Return the batch without `prompt_mask` unless the method asks for it."""
    return batch if adapted.reads_prompt else {name: t for name, t in batch.items() if name != "prompt_mask"}
