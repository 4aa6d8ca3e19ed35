"""Classification and regression: a head with one output for each label, or one for a number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from molex_cli.config.task import AnswerMode, Kind, Task
from molex_cli.data.batches import collate
from molex_cli.data.encoding import Encoded, encode
from molex_cli.data.reading import Split
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import compute_scores
from molex_cli.metrics.constant import best_constant
from molex_cli.objectives.base import Batch, Predictions, head_logits, objective, prediction_rows


def outputs(task: Task, labels: Sequence[str]) -> int:
    """Return one output for each label, or one for a number."""
    return len(labels) if task.kind is Kind.classification else 1


@objective(
    "classification",
    kinds=(Kind.classification, Kind.regression),
    answer_modes=(AnswerMode.head,),
    head_outputs=outputs,
    is_standard=True,
    smooths_labels=True,
)
class Classification:
    """Cross-entropy over labels, or squared error where there are none."""

    answer_mode = "head"
    label_smoothing = 0.0

    def __init__(self, task: Task, mode: AnswerMode, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self.positive = task.positive_class(labels)
        self.label_of_output: list[int] | None = None
        """For a model trained on other labels: the index of the label that each of its outputs means."""

    def encode(self, split: Split, tokenizer: Any, max_length: int, cache_dir: Path, *, training: bool) -> Encoded:
        """Return a row of tokens for each example."""
        return encode(split, tokenizer, max_length, cache_dir)

    def batch(self, encoded: Encoded, examples: Sequence[int], pad_id: int, pad_to: int | None) -> Batch:
        """Return input ids, mask, labels, ... [B, T] and [B]."""
        labels = torch.tensor([encoded.labels[example] for example in examples])
        return {**collate(encoded, examples, pad_id, pad_to), "labels": labels}

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the mean loss of the rows."""
        if not self.label_smoothing:
            return model(**batch).loss
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = model(**inputs).logits.float()
        return functional.cross_entropy(logits, batch["labels"], label_smoothing=self.label_smoothing)

    def weight(self, batch: Batch) -> int:
        """Return the number of rows."""
        return len(batch["labels"])

    def values(self, adapted: Adapted, encoded: Encoded, batch_size: int, device: torch.device) -> Tensor:
        """Return the logits of every row: [rows, labels], float32."""
        return head_logits(adapted, encoded, batch_size, device)

    def predictions(
        self, adapted: Adapted, encoded: Encoded, names: Sequence[str], batch_size: int, device: torch.device
    ) -> Predictions:
        """Score a split: the most probable label, or the number itself."""
        logits = self._merged(self.values(adapted, encoded, batch_size, device))
        predictions = logits.argmax(dim=-1).tolist() if self.labels else logits[:, 0].tolist()
        target = torch.tensor(encoded.labels)
        loss = functional.cross_entropy(logits, target) if self.labels else functional.mse_loss(logits[:, 0], target)
        rows = prediction_rows(encoded, predictions, logits.tolist(), self._shown)
        return Predictions(rows, compute_scores(names, predictions, encoded.labels, self.positive), float(loss))

    def baseline(self, names: Sequence[str], encoded: Encoded) -> dict[str, float]:
        """Return the best scores of one label, or one number, for every row."""
        return best_constant(names, encoded.labels, self.positive)

    def _merged(self, logits: Tensor) -> Tensor:
        """Return log-probabilities of our labels: outputs of one meaning are added up."""
        if self.label_of_output is None:
            return logits
        log_probabilities = logits.log_softmax(-1)
        meant = list(enumerate(self.label_of_output))
        groups = [[output for output, label in meant if label == each] for each in range(len(self.labels))]
        lowest = log_probabilities.new_full((len(logits),), float("-inf"))
        return torch.stack([log_probabilities[:, group].logsumexp(-1) if group else lowest for group in groups], dim=1)

    def _shown(self, value: Any) -> Any:
        return self.labels[value] if self.labels else value
