"""The training loop as a generator: it yields a `Step` for each optimizer step and does nothing else."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from molex_cli.data.batches import epoch_order, parts
from molex_cli.data.encoding import Encoded
from molex_cli.errors import TrainingError
from molex_cli.events import Step
from molex_cli.hardware import stream_seed
from molex_cli.methods.base import Adapted
from molex_cli.objectives.base import Batch, Objective, for_model, on
from molex_cli.schema import Schedule, Train

if TYPE_CHECKING:
    from accelerate import Accelerator

FLOW_STEPS = 20  # steps within which every trainable tensor should have received a gradient


@dataclass(frozen=True)
class Timetable:
    """How many optimizer steps a run takes."""

    rows: int
    effective_batch: int
    total_steps: int

    @classmethod
    def of(cls, settings: Train, num_rows: int, processes: int = 1) -> "Timetable":
        """Return the timetable of a training over so many rows."""
        effective = settings.batch_size * settings.accumulate * processes
        per_epoch = math.ceil(num_rows / effective)
        total = max(1, round(settings.epochs * per_epoch))
        return cls(num_rows, effective, min(total, settings.max_steps or total))

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimizer steps of one epoch."""
        return math.ceil(self.rows / self.effective_batch)

    def batches(self, lengths: Sequence[int], seed: int) -> Iterator[list[int]]:
        """Yield the rows of each optimizer step."""
        for epoch in range(math.ceil(self.total_steps / self.steps_per_epoch)):
            left = self.total_steps - epoch * self.steps_per_epoch
            yield from epoch_order(lengths, self.effective_batch, seed, epoch)[:left]


def rate_factor(step: int, total_steps: int, warmup: float, schedule: Schedule) -> float:
    """Return the share of the peak learning rate at a step (from 0): never zero, so that no step is lost."""
    warmup_steps = round(warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule is Schedule.linear:
        return 1 - done
    return (1 + math.cos(math.pi * done)) / 2 if schedule is Schedule.cosine else 1.0


def optimizer(adapted: Adapted, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with one parameter group for each group of the method."""
    groups: list[dict[str, Any]] = [
        {
            "params": list(group.parameters.values()),
            "name": group.name,
            "peak": learning_rate if group.learning_rate is None else group.learning_rate,
            "weight_decay": weight_decay if group.weight_decay is None else group.weight_decay,
        }
        for group in adapted.groups
        if group.parameters
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


@dataclass
class GradientFlow:
    """Watches which trainable tensors have received a gradient; those that never do are named."""

    waiting: dict[str, Tensor]
    steps: int = 0
    excused: Callable[[], dict[str, str]] = dict

    @classmethod
    def of(cls, adapted: Adapted) -> "GradientFlow":
        """Return a watch over everything the method trains."""
        return cls(dict(adapted.trainable()), excused=adapted.unused)

    def observe(self) -> None:
        """Look at the gradients of this step."""
        self.steps += 1
        if self.steps > FLOW_STEPS or not self.waiting:
            return
        seen = [name for name, p in self.waiting.items() if p.grad is not None and bool(p.grad.any())]
        for name in seen:
            del self.waiting[name]

    def report(self) -> dict[str, Any]:
        """Return the check for the record: passed, and the tensors without a gradient."""
        excused = self.excused()
        dead = sorted(name for name in self.waiting if name not in excused)
        # Until B has moved from zero, the gradient of A and of the router is zero: one step shows nothing.
        judged = self.steps >= 2
        reasons = {name: why for name, why in excused.items() if name in self.waiting}
        return {"passed": not dead if judged else None, "without_gradient": dead, "known": reasons, "steps": self.steps}


def steps(
    adapted: Adapted,
    objective: Objective,
    encoded: Encoded,
    settings: Train,
    *,
    learning_rate: float,
    seed: int,
    accelerator: "Accelerator",
    flow: GradientFlow | None = None,
) -> Iterator[Step]:
    """Train and yield each optimizer step; the order of rows depends on the seed and lengths alone."""
    timetable = Timetable.of(settings, len(encoded.ids), accelerator.num_processes)
    adam = optimizer(adapted, learning_rate, settings.weight_decay)
    model, adam = accelerator.prepare(adapted.model, adam)
    torch.manual_seed(stream_seed(seed, "dropout"))
    pad_id = adapted.backbone.tokenizer.pad_token_id
    trainable = list(adapted.trainable().values())
    for step, rows in enumerate(timetable.batches(encoded.lengths, seed)):
        started = time.perf_counter()
        factor = rate_factor(step, timetable.total_steps, settings.warmup, settings.schedule)
        for group in adam.param_groups:
            group["lr"] = group["peak"] * factor
        model.train()
        pieces = [objective.batch(encoded, part, pad_id, adapted.pad_to) for part in parts(rows, settings.batch_size)]
        losses = _backward(model, adapted, objective, pieces, accelerator)
        if flow is not None:
            flow.observe()
        norm = torch.nn.utils.clip_grad_norm_(trainable, settings.clip or math.inf)
        _require_finite(step + 1, losses.task, float(norm), learning_rate)
        adam.step()
        adam.zero_grad()
        yield Step(
            step=step + 1,
            epoch=(step + 1) / timetable.steps_per_epoch,
            loss=losses.task,
            balance_loss=losses.balance,
            learning_rate=learning_rate * factor,
            gradient_norm=float(norm),
            tokens=sum(encoded.lengths[row] for row in rows),
            seconds=time.perf_counter() - started,
        )


@dataclass(frozen=True)
class _Losses:
    task: float
    balance: float | None


def _backward(
    model: Any, adapted: Adapted, objective: Objective, batches: Sequence[Batch], accelerator: "Accelerator"
) -> _Losses:
    """Add up the gradients of one effective batch, so that it does not matter into how many parts it is cut."""
    task_total, balance_total = 0.0, None
    weights = [objective.weight(batch) for batch in batches]
    for batch, size in zip(batches, weights, strict=True):
        weight = size / max(1, sum(weights))
        loss = objective.loss(model, for_model(adapted, on(accelerator.device, batch)))
        balance = adapted.auxiliary_loss()
        total = loss if balance is None or not adapted.balance else loss + adapted.balance * balance
        accelerator.backward(total * weight)
        task_total += float(loss.detach()) * weight
        if balance is not None:
            balance_total = (balance_total or 0.0) + float(balance.detach()) * weight
    return _Losses(task_total, balance_total)


def _require_finite(step: int, loss: float, norm: float, learning_rate: float) -> None:
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} must be finite, got {value} at step {step}; lower train.learning_rate (now {learning_rate:g})"
            )
