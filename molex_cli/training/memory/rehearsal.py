"""A training step without weights or data: every tensor has its shape and type, and no content.

torch's fake tensors go through the model, the method, the loss, the backward pass and the optimizer as real ones
would. Rows are as long as train.max_length, which no batch exceeds.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils.operations import convert_outputs_to_fp32
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from molex_cli.config.schema import Experiment
from molex_cli.config.task import AnswerMode, Kind
from molex_cli.data.batches import microbatches
from molex_cli.data.encoding import NONE, Encoded
from molex_cli.errors import ConfigError, MethodError, MolexError, reason_of
from molex_cli.methods.base import Adapted
from molex_cli.methods.placement import lay_out, recompute
from molex_cli.models.loading import skeleton
from molex_cli.objectives import Batch, build_objective, head_outputs
from molex_cli.objectives.base import for_model
from molex_cli.objectives.splits import require_positions
from molex_cli.runtime.hardware import Hardware, Precision, computes_on_gpu, process_count, shared_by_others
from molex_cli.training.loop import optimizer
from molex_cli.training.memory.four_bit import FourBitLinear
from molex_cli.training.memory.gpu_kernels import GpuKernels
from molex_cli.training.memory.live import LiveStorages

WEIGHTS, GRADIENTS, MOMENTS, KEPT, OTHER = "weights", "gradients", "moments", "kept", "temporaries"
WORKSPACES = "workspaces"
CUBLAS = 2 * 32 * 2**20
"""Bytes that cuBLAS and cuBLASLt take from torch's allocator on an H100; older GPUs need less."""
FORMATS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.uint8: "nf4"}
CHOICES = 4
"""Choices of a question where no setting tells how many there are."""


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """What one process holds in a training step after the first one, in bytes."""

    processes: int
    """That share the run; each holds this much."""
    rows: int
    """Of a forward pass of one process; multiple choice has one for each choice."""
    tokens: int
    """Of a row."""
    weights: dict[str, int]
    """All of the model's by number format, trained ones too; what is no weight of 4 bits but belongs to one, at it."""
    gradients: int
    """Of their storages, which are larger where gradients are views of something larger."""
    moments: int
    """Adam's two means of each trained number."""
    kept: int
    """What the forward pass leaves for the backward pass."""
    logits: int
    """The model's output, which the loss is computed from."""
    largest_temporary: int
    """The largest tensor that is none of these."""
    peak: int
    at_peak: dict[str, int]
    """By part, what of it lives at the peak; adds up to it."""
    peak_in: str
    """forward, backward or update."""


@dataclass
class _Marks:
    """Where in the list of changes a step's passes begin and end, and which storages are what."""

    start: int
    forward_end: int = 0
    backward_end: int = 0
    kept: frozenset[int] = frozenset()
    logits: frozenset[int] = frozenset()
    gradients: frozenset[int] = frozenset()


class Rehearsal:
    """A run's model, method and optimizer without content, which do training steps of any number of rows."""

    def __init__(self, experiment: Experiment, labels: Sequence[str]) -> None:
        if experiment.hardware.shard:
            raise ConfigError("hardware.shard must be false where memory is planned, got true; set hardware=ddp")
        self.experiment, self._choices = experiment, len(labels) or CHOICES
        self.processes = shared_by_others() or process_count(experiment.hardware)
        self._known: dict[tuple[int, bool], StepMemory] = {}
        task, model = experiment.task, experiment.model
        self._objective = build_objective(task, model, labels, experiment.train.label_smoothing)
        self._fake, self._live = FakeTensorMode(allow_non_fake_inputs=True), LiveStorages()
        with _told_if_impossible(experiment), self._fake:
            self._adapted = _adapted(experiment, head_outputs(task, model, labels))
            require_positions(experiment, self._adapted.backbone, self._objective)
            self._trained = list(self._adapted.trainable().values())
            self._adam = optimizer(self._adapted, experiment.learning_rate, experiment.train)
            weights = [*self._adapted.model.parameters(), *self._adapted.model.buffers()]
            self._weights = self._live.see(weights)
            self._bytes_by_format = _by_format(weights)
            with self._live:
                self._make_gradients()
                self._update()
            self._moments = self._live.alive() - self._weights

    @property
    def has_four_bits(self) -> bool:
        """Return whether some weights are kept in 4 bits."""
        return "nf4" in self._bytes_by_format

    @property
    def generates(self) -> bool:
        """Return whether answers are generated, which takes memory that is not planned."""
        return self._objective.answer_mode == AnswerMode.generate.name

    def step(self, rows: int, *, accumulates: bool = False) -> StepMemory:
        """Return the memory of a step; with `accumulates`, of one that adds to the gradients of another pass."""
        key = rows, accumulates
        if key not in self._known:
            batch = self._batch(rows)
            kernels = kernels_of(self.experiment.hardware)
            with _told_if_impossible(self.experiment), self._fake, kernels, self._live:
                if accumulates:
                    self._make_gradients()
                self._known[key] = self._told(batch, self._stepped(batch))
        return self._known[key]

    def own_step(self) -> StepMemory:
        """Return the memory of a step as the run's settings have it."""
        return self.step_of(self.experiment.train.batch_size)

    def step_of(self, batch_size: int) -> StepMemory:
        """Return the memory of a step with this train.batch_size and the run's effective batch."""
        rows, accumulates = self.share(batch_size)
        return self.step(rows, accumulates=accumulates)

    def share(self, batch_size: int) -> tuple[int, bool]:
        """Return the most rows that a process has in a forward pass, and whether it does several passes a step."""
        train = self.experiment.train
        effective = range(train.batch_size * train.gradient_accumulation_steps)
        own = microbatches(effective, batch_size, 0, self.processes)  # the first process has most
        return max(len(each.rows) for each in own), len(own) > 1

    def scoring_peak(self) -> int:
        """Return the peak of a forward pass over train.eval_batch_size rows, without gradients."""
        inputs = for_model(self._adapted, self._batch(self.experiment.train.eval_batch_size))
        model, start = self._adapted.model.eval(), len(self._live.changes)
        with (
            _told_if_impossible(self.experiment),
            self._fake,
            kernels_of(self.experiment.hardware),
            self._live,
            torch.no_grad(),
        ):
            model(**{name: each for name, each in inputs.items() if name not in ("labels", "sizes")})
        return self._live.peak({}, OTHER, start)[0].total() + self._workspaces

    @property
    def _workspaces(self) -> int:
        return CUBLAS if computes_on_gpu(self.experiment.hardware) else 0

    def _stepped(self, batch: Batch) -> _Marks:
        """Do a training step as the loop does, and return where its passes end."""
        live, model = self._live, self._adapted.model
        before, marks = live.alive(), _Marks(len(live.changes))
        seen: set[int] = set()
        hook = model.register_forward_hook(lambda module, inputs, output: seen.update(live.see([output.logits])))
        loss = self._loss(batch)
        hook.remove()
        marks.kept, marks.forward_end = frozenset(live.alive() - before), len(live.changes)
        loss.backward()
        marks.gradients, marks.backward_end = frozenset(self._gradients()), len(live.changes)
        marks.logits = frozenset(seen)
        del loss
        if self.processes > 1:  # as distributed.all_reduce_gradients
            sums = [p.grad.clone() for p in self._trained if p.grad is not None]
            del sums
        self._update()
        return marks

    def _loss(self, batch: Batch) -> Tensor:
        adapted = self._adapted
        adapted.model.train()
        task = self._objective.loss(adapted.model, for_model(adapted, batch))
        balance = adapted.auxiliary_loss()
        return task if balance is None or not adapted.balance else task + adapted.balance * balance

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self._trained, self.experiment.train.max_grad_norm or float("inf"))
        self._adam.step()
        self._adam.zero_grad()

    def _make_gradients(self) -> None:
        for parameter in self._trained:
            parameter.grad = torch.zeros_like(parameter)

    def _gradients(self) -> set[int]:
        return self._live.see(p.grad for p in self._trained if p.grad is not None)

    def _batch(self, rows: int) -> Batch:
        """Return rows of train.max_length tokens."""
        tokens = self.experiment.train.max_length
        kind = self.experiment.task.kind
        has_choices = kind is Kind.multiple_choice and self._objective.answer_mode == "head"
        lines = rows * self._choices if has_choices else rows
        encoded = Encoded(
            ids=[""] * rows,
            labels=[0.0 if kind is Kind.regression else 0] * rows,
            tokens=np.ones(lines * tokens, dtype=np.int64),
            types=NONE,
            offsets=np.arange(lines + 1) * tokens,
            starts=np.full(lines, tokens // 2),
            groups=np.arange(rows + 1) * self._choices if has_choices else NONE,
        )
        batch = self._objective.batch(encoded, range(rows), 0, self._adapted.pad_to)
        batch["attention_mask"][-1, -1] = 0  # some row is shorter, so that no model leaves its mask out
        return batch

    def _told(self, batch: Batch, marks: _Marks) -> StepMemory:
        bytes_of = self._live.bytes
        parts = {WEIGHTS: self._weights, MOMENTS: self._moments, KEPT: marks.kept, GRADIENTS: marks.gradients}
        kinds = {number: kind for kind, numbers in parts.items() for number in numbers}
        at_peak, when = self._live.peak(kinds, OTHER, marks.start)
        began = {number for number, sign in self._live.changes[marks.start :] if sign > 0}
        at_peak[WORKSPACES] = self._workspaces
        rows, tokens = batch["input_ids"].shape
        return StepMemory(
            processes=self.processes,
            rows=rows,
            tokens=tokens,
            weights=self._bytes_by_format,
            gradients=sum(bytes_of[number] for number in marks.gradients),
            moments=sum(bytes_of[number] for number in self._moments),
            kept=sum(bytes_of[number] for number in marks.kept),
            logits=sum(bytes_of[number] for number in marks.logits),
            largest_temporary=max((bytes_of[number] for number in began - set(kinds)), default=0),
            peak=at_peak.total(),
            at_peak={kind: at_peak[kind] for kind in (WEIGHTS, GRADIENTS, MOMENTS, KEPT, OTHER, WORKSPACES)},
            peak_in="forward" if when < marks.forward_end else "backward" if when < marks.backward_end else "update",
        )


@contextmanager
def _told_if_impossible(experiment: Experiment) -> Iterator[None]:
    """Turn what torch says of code that needs the content of tensors, and whatever follows, into one line."""
    torchs_own = logging.getLogger(fake_tensor.__name__)  # logs a traceback
    before, torchs_own.disabled = torchs_own.disabled, True
    try:
        yield
    except MolexError:
        raise
    except Exception as error:
        reason = reason_of(error)
        raise MethodError(
            f"memory must be planned of a model and a method that do without the content of tensors, got "
            f"model={experiment.model.name} method={experiment.method.name}: {reason}"
        ) from error
    finally:
        torchs_own.disabled = before


def _adapted(experiment: Experiment, outputs: int | None) -> Adapted:
    """Return the adapted model as the hardware settings lay it out."""
    backbone = skeleton(experiment.model, outputs, device="cpu")
    backbone.model.config.pad_token_id, backbone.model.config.use_cache = 0, False
    adapted = experiment.method.inject(backbone)
    adapted.assume_choices()
    lay_out_fake(adapted, experiment.hardware)
    return adapted


def lay_out_fake(adapted: Adapted, settings: Hardware) -> None:
    """Do with a model of fake tensors what a run does with a real one: its base's format, recomputation, precision."""
    lay_out(adapted, settings, FourBitLinear)
    if settings.activation_checkpointing:  # a backward pass sets torch's function modes aside
        recompute(adapted.model, context_fn=lambda: (nullcontext(), kernels_of(settings)))
    if settings.precision is Precision.bf16:  # as accelerate does
        model = adapted.model
        model.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(model.forward))


def kernels_of(settings: Hardware) -> AbstractContextManager[Any]:
    """Return what lets fake tensors be computed by a GPU's kernels where the settings mean one."""
    return GpuKernels() if computes_on_gpu(settings) else nullcontext()


def _by_format(weights: Sequence[Tensor]) -> dict[str, int]:
    """Return the bytes of weights by their number format, each storage once."""
    storages = {each.untyped_storage()._cdata: each for each in weights}
    found = Counter[str]()
    for each in storages.values():
        found[FORMATS.get(each.dtype) or str(each.dtype).removeprefix("torch.")] += each.untyped_storage().nbytes()
    return dict(found)
