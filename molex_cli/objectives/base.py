"""What an objective is: from rows to batches, from batches to a loss, from a model to scores."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from molex_cli.config.task import AnswerMode, Kind, Task
from molex_cli.data.batches import collate, scoring_order, slices
from molex_cli.data.encoding import Encoded
from molex_cli.data.reading import Split
from molex_cli.errors import require_own_name
from molex_cli.methods.base import Adapted
from molex_cli.runtime import distributed

Batch = dict[str, Tensor]
READ_BY_PYTHON = ("sizes",)


@dataclass(frozen=True)
class Predictions:
    """A model's predictions of a split: one row for each example, their scores, and the loss."""

    rows: list[dict[str, Any]]
    """id, label, prediction, and what led to it."""
    scores: dict[str, float]
    loss: float
    unanswered: tuple[str, ...] = ()
    """Why the answers cannot be scored, by the answer mode."""

    def degenerate(self) -> list[str]:
        """Return why the scores mean nothing: undefined ones, constant predictions, no answers."""
        reasons = [f"{name} is undefined" for name, value in self.scores.items() if math.isnan(value)]
        if len(self.rows) > 1 and len({str(row["prediction"]) for row in self.rows}) == 1:
            reasons.append("all predictions are the same")
        return [*reasons, *self.unanswered]


class Objective(Protocol):
    """One way to train a model on a task and to score it."""

    answer_mode: str
    """The answer mode's name, for the record."""

    def encode(self, split: Split, tokenizer: Any, max_length: int, cache_dir: Path, *, training: bool) -> Encoded:
        """Return the split as tokens."""

    def batch(self, encoded: Encoded, examples: Sequence[int], pad_id: int, pad_to: int | None) -> Batch:
        """Return some examples as tensors."""

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""

    def weight(self, batch: Batch) -> int:
        """Return the number of rows, questions or tokens over which `loss` is a mean."""

    def values(self, adapted: Adapted, encoded: Encoded, batch_size: int, device: torch.device) -> Tensor:
        """Return the numbers that the scores come from, one line for each row of tokens, on the CPU."""

    def predictions(
        self, adapted: Adapted, encoded: Encoded, names: Sequence[str], batch_size: int, device: torch.device
    ) -> Predictions:
        """Score a split with the named metrics."""

    def baseline(self, names: Sequence[str], encoded: Encoded) -> dict[str, float]:
        """Return the best scores that the same answer to every row of a split reaches."""


@dataclass(frozen=True)
class Registered:
    """An objective that tasks can be trained on."""

    name: str
    build: Callable[[Task, AnswerMode, Sequence[str]], Objective]
    kinds: tuple[Kind, ...]
    answer_modes: tuple[AnswerMode, ...]
    head_outputs: Callable[[Task, Sequence[str]], int | None]
    """Outputs of the head, from a task and its labels; None for a language model."""
    is_standard: bool
    """Whether it is taken where task.objective names none."""
    smooths_labels: bool
    """Whether train.label_smoothing may be set with it; its class then has a field `label_smoothing` for the number."""

    def serves(self, kind: Kind, mode: AnswerMode) -> bool:
        """Return whether it trains on tasks of this kind in this answer mode."""
        return kind in self.kinds and mode in self.answer_modes


OBJECTIVES: dict[str, Registered] = {}
C = TypeVar("C", bound=Callable[[Task, AnswerMode, Sequence[str]], Objective])


def objective(
    name: str,
    *,
    kinds: tuple[Kind, ...],
    answer_modes: tuple[AnswerMode, ...],
    head_outputs: Callable[[Task, Sequence[str]], int | None],
    is_standard: bool = False,
    smooths_labels: bool = False,
) -> Callable[[C], C]:
    """Register a class as an objective, to be chosen with task.objective=NAME."""

    def register(cls: C) -> C:
        require_own_name("an objective", name, OBJECTIVES)
        OBJECTIVES[name] = Registered(name, cls, kinds, answer_modes, head_outputs, is_standard, smooths_labels)
        return cls

    return register


def scoring_batches(adapted: Adapted, encoded: Encoded, batch_size: int) -> list[Sequence[int]]:
    """Return examples in batches: of like length, or in order where the batch decides what is predicted."""
    if adapted.batch_dependent:
        return list(slices(range(len(encoded.ids)), batch_size))
    return list(scoring_order(encoded.lengths, batch_size))


def sharded(adapted: Adapted, batches: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
    """Yield this process's batches; one that has fewer than others takes one twice, to stay in step with them."""
    rank, world = distributed.rank(), distributed.world_size()
    yield from batches[rank::world]
    if rank >= len(batches) % world > 0:
        with adapted.uncounted():
            yield batches[0]


@torch.no_grad()
def head_logits(adapted: Adapted, encoded: Encoded, batch_size: int, device: torch.device) -> Tensor:
    """Return the head's output for every row of tokens: [rows, outputs], float32, on the CPU."""
    adapted.model.eval()
    rows: list[int] = []
    logits: list[Tensor] = []
    for examples in sharded(adapted, scoring_batches(adapted, encoded, batch_size)):
        part = encoded.rows_of(examples)
        batch = collate(encoded, part, adapted.backbone.tokenizer.pad_token_id, adapted.pad_to)
        logits.append(adapted.model(**on(device, batch)).logits.float())
        rows += part
    return in_order(logits, rows)


def in_order(values: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """Return lines that all processes together computed for all rows, in the order of the rows, on the CPU."""
    lines = torch.cat(distributed.all_gather([torch.cat(list(values)).cpu()]))
    position_of: dict[int, int] = {}
    for position, row in enumerate(distributed.all_gather(rows)):
        position_of.setdefault(row, position)  # a batch that only kept a process in step comes after the real one
    return lines[torch.tensor([position_of[row] for row in range(len(position_of))])]


def prediction_rows(
    encoded: Encoded, predictions: Sequence[Any], logits: Sequence[Sequence[float]], name: Callable[[Any], Any]
) -> list[dict[str, Any]]:
    """Return a line for each example; `name` turns a class index into what a reader knows it by."""
    return [
        {
            "id": key,
            "label": name(label),
            "prediction": name(prediction),
            "logits": [round(value, 6) for value in row],
        }
        for key, label, prediction, row in zip(encoded.ids, encoded.labels, predictions, logits, strict=True)
    ]


def on(device: torch.device, batch: Batch) -> Batch:
    """Return the batch on the device, but for what Python itself reads; a GPU is not waited for."""
    return {name: each if name in READ_BY_PYTHON else on_its_way(device, each) for name, each in batch.items()}


def on_its_way(device: torch.device, tensor: Tensor) -> Tensor:
    """Return a tensor of the CPU on the device, where what is computed next finds it."""
    # From memory that is not pinned, a copy to a GPU waits for all that the GPU has still to do.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def for_model(adapted: Adapted, batch: Batch) -> Batch:
    """Return the batch without `prompt_mask` unless the method reads it."""
    return batch if adapted.reads_prompt else {name: t for name, t in batch.items() if name != "prompt_mask"}
