"""Multiple choice with a head: one output for each pair of question and choice, softmax over a question's choices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from molex_cli.config.task import AnswerMode, Kind, Task
from molex_cli.data.batches import collate
from molex_cli.data.encoding import Encoded, encode_pairs
from molex_cli.data.prompts import letter
from molex_cli.data.reading import Split
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import compute_scores
from molex_cli.metrics.constant import best_constant
from molex_cli.objectives.base import Batch, Predictions, head_logits, objective, prediction_rows


@objective(
    "multiple_choice",
    kinds=(Kind.multiple_choice,),
    answer_modes=(AnswerMode.head,),
    head_outputs=lambda task, labels: 1,
    is_standard=True,
    smooths_labels=True,
)
class MultipleChoice:
    """Cross-entropy over the choices of each question, of which there may be any number."""

    answer_mode = "head"
    label_smoothing = 0.0

    def __init__(self, task: Task, mode: AnswerMode, labels: Sequence[str]) -> None:
        self.labels = list(labels)

    def encode(self, split: Split, tokenizer: Any, max_length: int, cache_dir: Path, *, training: bool) -> Encoded:
        """Return a row of tokens for each question and choice."""
        return encode_pairs(split, tokenizer, max_length, cache_dir)

    def batch(self, encoded: Encoded, examples: Sequence[int], pad_id: int, pad_to: int | None) -> Batch:
        """Return rows [R, T] of all choices, the number of choices `sizes` [B], and labels [B]."""
        return {
            **collate(encoded, encoded.rows_of(examples), pad_id, pad_to),
            "sizes": torch.tensor([len(encoded.rows_of([example])) for example in examples]),
            "labels": torch.tensor([encoded.labels[example] for example in examples]),
        }

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the questions."""
        inputs = {name: tensor for name, tensor in batch.items() if name not in ("sizes", "labels")}
        scores_BC = by_question(model(**inputs).logits[:, 0].float(), batch["sizes"].tolist())
        loss = functional.cross_entropy(scores_BC, batch["labels"])
        if not self.label_smoothing:
            return loss
        # A question may have fewer choices than the longest: only its own share what is smoothed.
        missing = scores_BC == float("-inf")
        nats_B = -scores_BC.log_softmax(-1).masked_fill(missing, 0.0).sum(-1) / (~missing).sum(-1)
        return (1 - self.label_smoothing) * loss + self.label_smoothing * nats_B.mean()

    def weight(self, batch: Batch) -> int:
        """Return the number of questions."""
        return len(batch["labels"])

    def values(self, adapted: Adapted, encoded: Encoded, batch_size: int, device: torch.device) -> Tensor:
        """Return the output of every pair of question and choice: [rows, 1], float32."""
        return head_logits(adapted, encoded, batch_size, device)

    def predictions(
        self, adapted: Adapted, encoded: Encoded, names: Sequence[str], batch_size: int, device: torch.device
    ) -> Predictions:
        """Score a split: the choice with the highest output."""
        values = self.values(adapted, encoded, batch_size, device)[:, 0]
        sizes = sizes_of(encoded)
        scores_BC = by_question(values, sizes)
        predictions = scores_BC.argmax(dim=-1).tolist()
        loss = functional.cross_entropy(scores_BC, torch.tensor(encoded.labels))
        rows = prediction_rows(encoded, predictions, [each.tolist() for each in values.split(sizes)], self._shown)
        return Predictions(rows, compute_scores(names, predictions, encoded.labels), float(loss))

    def baseline(self, names: Sequence[str], encoded: Encoded) -> dict[str, float]:
        """Return the best scores of one choice, by its letter, for every question."""
        return best_constant(names, encoded.labels)

    def _shown(self, index: int) -> str:
        return self.labels[index] if self.labels else letter(index)


def sizes_of(encoded: Encoded) -> list[int]:
    """Return the number of choices of each question."""
    sizes: list[int] = (encoded.groups[1:] - encoded.groups[:-1]).tolist()
    return sizes


def by_question(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return values [R] as a line for each question [B, C], minus infinity where it has fewer choices."""
    lines = list(values.split(list(sizes)))
    return torch.nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_value=float("-inf"))
