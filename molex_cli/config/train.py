"""Settings of the training loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

MOST_EPOCHS = 1_000_000


class LearningRateSchedule(Enum):
    """How the learning rate changes over the optimizer steps after the warm-up."""

    linear = "linear"
    cosine = "cosine"
    constant = "constant"


@dataclass(kw_only=True)
class Train:
    """The loop: how long, in what batches, how fast."""

    epochs: float = 3.0
    """Passes over the training rows; a part of one too."""
    max_steps: int | None = None
    """Optimizer steps at most; null trains all epochs. So does a number beyond them, and a line says so."""
    batch_size: int = 16
    """Rows of one forward pass; processes that share a run share them, or the passes."""
    gradient_accumulation_steps: int = 1
    """Forward passes of one optimizer step; the effective batch is batch_size x this, whatever the processes."""
    eval_batch_size: int = 64
    """Rows of one forward pass of an evaluation."""
    learning_rate: float | None = None
    """Peak learning rate; null takes the method's recommended one, at the model's scale."""
    schedule: LearningRateSchedule = LearningRateSchedule.linear
    """Course of the learning rate after the warm-up."""
    warmup_ratio: float | None = 0.06
    """Share of the steps with a rising learning rate; null where train.warmup_steps says how many."""
    warmup_steps: int | None = None
    """Optimizer steps with a rising learning rate; goes with train.warmup_ratio=null."""
    weight_decay: float = 0.0
    """Of AdamW, times the learning rate."""
    decay_biases_and_norms: bool = True
    """Let weight_decay act on biases and normalisation too; false spares them, as Hugging Face's trainer does."""
    adam_beta1: float = 0.9
    """Decay of AdamW's mean of the gradients."""
    adam_beta2: float = 0.999
    """Decay of AdamW's mean of their squares."""
    adam_epsilon: float = 1e-8
    """What AdamW adds to the root of that mean."""
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over all labels, or the vocabulary, in the training loss."""
    frozen_dropout: bool = True
    """Keep the dropout of frozen layers below everything that trains; false computes these layers once for each row, as
    is done in any case where they have no dropout."""
    max_grad_norm: float | None = 1.0
    """Largest gradient norm; null clips nothing."""
    max_length: int = 128
    """Tokens of one row at most; longer rows are cut."""
    max_rows: int | None = None
    """Rows of each split at most, a fixed sample; null takes all."""
    selection: float = 0.0
    """Training rows that choose the best evaluation instead: a share below 1, or a number; 0 chooses on validation."""
    selection_seed: int = 0
    """Draws those rows; the same for every arm and seed."""
    evaluate_at_start: bool = False
    """Score the untrained model too; it is never the best."""
    evaluate_every: int | None = None
    """Optimizer steps between evaluations; null evaluates after each epoch."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if self.epochs <= 0:
            yield f".epochs must be above 0, got {self.epochs}"
        if self.epochs > MOST_EPOCHS:
            yield f".epochs must be at most {MOST_EPOCHS:,}, got {self.epochs}; train.max_steps ends a training sooner"
        positive = (
            "max_steps",
            "batch_size",
            "gradient_accumulation_steps",
            "eval_batch_size",
            "max_rows",
            "evaluate_every",
        )
        for name in (*positive, "max_grad_norm", "learning_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                yield f".{name} must be {'at least 1' if name in positive else 'above 0'}, got {value}"
        yield from self._warmup_problems()
        yield from self._selection_problems()
        if self.weight_decay < 0:
            yield f".weight_decay must be at least 0, got {self.weight_decay}"
        for name in ("adam_beta1", "adam_beta2", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                yield f".{name} must be at least 0 and below 1, got {getattr(self, name)}"
        if self.adam_epsilon <= 0:
            yield f".adam_epsilon must be above 0, got {self.adam_epsilon}"
        if self.max_length < 8:
            yield f".max_length must be at least 8, got {self.max_length}"

    def _warmup_problems(self) -> Iterator[str]:
        if self.warmup_ratio is None and self.warmup_steps is None:
            yield ".warmup_ratio must be set unless train.warmup_steps is, got null for both"
        elif self.warmup_ratio is not None and self.warmup_steps is not None:
            yield f".warmup_steps must go with train.warmup_ratio=null, got {self.warmup_steps} and {self.warmup_ratio}"
        if self.warmup_ratio is not None and not 0 <= self.warmup_ratio < 1:
            yield f".warmup_ratio must be at least 0 and below 1, got {self.warmup_ratio}"
        if self.warmup_steps is not None and self.warmup_steps < 0:
            yield f".warmup_steps must be at least 0, got {self.warmup_steps}"

    def _selection_problems(self) -> Iterator[str]:
        is_number = self.selection >= 1
        if self.selection < 0 or (is_number and self.selection != int(self.selection)):
            yield f".selection must be a share of the training rows below 1, or their number, got {self.selection}"
        if self.selection_seed and not self.selection:
            yield f".selection_seed must go with train.selection, got {self.selection_seed} without one"

    def warmup(self, total_steps: int) -> int:
        """Return the steps of a training of so many in which the learning rate rises."""
        return round((self.warmup_ratio or 0.0) * total_steps) if self.warmup_steps is None else self.warmup_steps
