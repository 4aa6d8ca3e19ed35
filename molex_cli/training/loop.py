"""The training loop as a generator: it yields a `Step` for each optimizer step and does nothing else."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from molex_cli.config.train import LearningRateSchedule, Train
from molex_cli.data.batches import Microbatch, epoch_order, microbatches
from molex_cli.data.encoding import Encoded
from molex_cli.errors import DivergedError
from molex_cli.methods.base import Adapted, Group
from molex_cli.objectives.base import Batch, Objective, for_model, on
from molex_cli.runtime import distributed
from molex_cli.runtime.hardware import stream_seed
from molex_cli.tracking.events import Step
from molex_cli.training.gradient_flow import GradientFlow

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Schedule:
    """The optimizer steps of a run: how many, on which rows, and after which of them it is scored.

    How the learning rate falls over these steps is another schedule: `train.schedule`, in `rate_factor`.
    """

    rows: int
    effective_batch: int
    total_steps: int
    evaluate_every: int
    """Steps between two evaluations."""

    @classmethod
    def of(cls, settings: Train, num_rows: int) -> "Schedule":
        """Return the schedule of a training over so many rows."""
        effective = settings.batch_size * settings.gradient_accumulation_steps
        per_epoch = math.ceil(num_rows / effective)
        total = max(1, round(settings.epochs * per_epoch))
        every = settings.evaluate_every or per_epoch
        return cls(num_rows, effective, min(total, settings.max_steps or total), every)

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimizer steps of one epoch."""
        return math.ceil(self.rows / self.effective_batch)

    def evaluates_after(self, step: int) -> bool:
        """Return whether the run is scored after this step: after every so many, and after the last."""
        return step % self.evaluate_every == 0 or step == self.total_steps

    def batches(self, lengths: Sequence[int], seed: int) -> Iterator[list[int]]:
        """Yield the rows of each optimizer step."""
        for epoch in range(math.ceil(self.total_steps / self.steps_per_epoch)):
            left = self.total_steps - epoch * self.steps_per_epoch
            yield from epoch_order(lengths, self.effective_batch, seed, epoch)[:left]


def rate_factor(step: int, total_steps: int, warmup_steps: int, schedule: LearningRateSchedule) -> float:
    """Return the share of the peak learning rate at a step (from 0): never zero, so that every step trains."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule is LearningRateSchedule.linear:
        return 1 - done
    return (1 + math.cos(math.pi * done)) / 2 if schedule is LearningRateSchedule.cosine else 1.0


def optimizer(adapted: Adapted, learning_rate: float, settings: Train) -> torch.optim.AdamW:
    """Return AdamW with one parameter group for each group of the method, or two where some are spared from decay."""
    groups: list[dict[str, Any]] = []
    for group in adapted.groups:
        rate = learning_rate if group.learning_rate is None else group.learning_rate
        for name, parameters, decay in _decayed(adapted.model, group, settings):
            if parameters:
                groups.append({"params": parameters, "name": name, "peak": rate, "weight_decay": decay})
    betas = settings.adam_beta1, settings.adam_beta2
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=settings.adam_epsilon, fused=True)


def _decayed(
    model: torch.nn.Module, group: Group, settings: Train
) -> Iterator[tuple[str, list[torch.nn.Parameter], float]]:
    """Yield name, parameters and weight decay of a group's parts; a decay of the group's own holds for all of it."""
    if group.weight_decay is not None or settings.decay_biases_and_norms:
        decay = settings.weight_decay if group.weight_decay is None else group.weight_decay
        yield group.name, list(group.parameters.values()), decay
        return
    spared = {name for name in group.parameters if _is_bias_or_norm(model, name)}
    yield group.name, [p for name, p in group.parameters.items() if name not in spared], settings.weight_decay
    yield f"{group.name}, not decayed", [p for name, p in group.parameters.items() if name in spared], 0.0


def _is_bias_or_norm(model: torch.nn.Module, name: str) -> bool:
    module, _, last = name.rpartition(".")
    return "bias" in last or "norm" in type(model.get_submodule(module)).__name__.lower()


@dataclass
class Training:
    """What a training carries from step to step, and all that a checkpoint must keep of it.

    Its random streams are no part of it: each is a function of the seed and the step.
    """

    adapted: Adapted
    adam: torch.optim.AdamW
    learning_rate: float
    """Peak learning rate."""
    flow: GradientFlow
    step: int = 0
    """Optimizer steps done."""

    @classmethod
    def of(
        cls, adapted: Adapted, settings: Train, learning_rate: float, flow: GradientFlow | None = None
    ) -> "Training":
        """Return a training before its first step."""
        adam = optimizer(adapted, learning_rate, settings)
        return cls(adapted, adam, learning_rate, flow or GradientFlow.of(adapted))


def steps(
    training: Training,
    objective: Objective,
    encoded: Encoded,
    settings: Train,
    *,
    seed: int,
    accelerator: "Accelerator",
) -> Iterator[Step]:
    """Train to the end of the schedule and yield each optimizer step that is left.

    The order of the rows depends on the seed and their lengths alone.
    """
    schedule = Schedule.of(settings, len(encoded.ids))
    warmup_steps = settings.warmup(schedule.total_steps)
    pad_id = training.adapted.backbone.tokenizer.pad_token_id
    for rows in islice(schedule.batches(encoded.lengths, seed), training.step, None):
        started = time.perf_counter()
        factor = rate_factor(training.step, schedule.total_steps, warmup_steps, settings.schedule)
        own = microbatches(rows, settings.batch_size, distributed.rank(), distributed.world_size())
        batches = [objective.batch(encoded, each.rows, pad_id, training.adapted.pad_to) for each in own]
        step_seed = stream_seed(seed, f"dropout/{training.step}")
        training.adapted.model.train()
        passes = _backward(training, objective, own, batches, step_seed, accelerator)
        done = _update(training, passes, factor, settings.max_grad_norm, accelerator.device)
        yield Step(
            step=training.step,
            epoch=training.step / schedule.steps_per_epoch,
            loss=done.task,
            balance_loss=done.balance,
            learning_rate=training.learning_rate * factor,
            gradient_norm=done.norm,
            tokens=sum(encoded.lengths[row] for row in rows),
            seconds=time.perf_counter() - started,
        )


@dataclass(frozen=True)
class _Pass:
    """What a microbatch gives, still on the device: to read a number is to wait for all that is being computed."""

    task: Tensor
    weight: int
    total: float
    """The weight of all microbatches."""
    balance: Tensor | None


@dataclass(frozen=True)
class _Done:
    """The numbers of an optimizer step."""

    task: float
    balance: float | None
    norm: float


def _backward(
    training: Training,
    objective: Objective,
    own: Sequence[Microbatch],
    batches: Sequence[Batch],
    step_seed: int,
    accelerator: "Accelerator",
) -> list[_Pass]:
    """Add up the gradients of one effective batch, so that it does not matter how it is cut and who computes it.

    A microbatch's loss counts by its weight in the whole effective batch; the balance loss of a microbatch that
    processes split is that of the microbatch as a whole.
    """
    adapted = training.adapted
    weights = [0 if each.is_dummy else objective.weight(batch) for each, batch in zip(own, batches, strict=True)]
    whole_weights = _whole_weights(own, weights, accelerator.device)
    total = max(1.0, sum(whole_weights))
    passes = []
    for microbatch, batch, weight in zip(own, batches, weights, strict=True):
        torch.manual_seed(_dropout_seed(microbatch, step_seed))
        with adapted.uncounted() if microbatch.is_dummy else nullcontext():
            task = objective.loss(adapted.model, for_model(adapted, on(accelerator.device, batch)))
        loss = task * (weight / total)
        balance = adapted.auxiliary_loss(split=microbatch.is_split)
        if balance is not None:
            balance = balance * (whole_weights[microbatch.index] / total)
            loss = loss + adapted.balance * balance if adapted.balance else loss
        accelerator.backward(loss)
        passes.append(_Pass(task.detach(), weight, total, None if balance is None else balance.detach()))
    return passes


def _update(
    training: Training, passes: Sequence[_Pass], factor: float, max_grad_norm: float | None, device: torch.device
) -> _Done:
    """Take an optimizer step with the gradients of all processes, and then wait once: for all numbers of the step."""
    trainable = list(training.adapted.trainable().values())
    distributed.all_reduce_gradients(trainable)
    seen = training.flow.look()
    norm = torch.nn.utils.clip_grad_norm_(trainable, max_grad_norm or math.inf)
    for group in training.adam.param_groups:
        group["lr"] = group["peak"] * factor
    training.adam.step()
    training.adam.zero_grad()
    balances = [each.balance for each in passes if each.balance is not None]
    scalars = [*(each.task for each in passes), *balances, *seen.values()]
    numbers = iter(torch.stack([norm, *(each.to(norm) for each in scalars)]).tolist())  # the one wait for the device
    done = _totals(next(numbers), passes, numbers, device)
    training.flow.note(name for name, has_gradient in zip(seen, numbers, strict=True) if has_gradient)
    _require_finite(training.step + 1, done, training.learning_rate)
    training.step += 1
    return done


def _totals(norm: float, passes: Sequence[_Pass], numbers: Iterator[float], device: torch.device) -> _Done:
    """Return the losses of all processes from those of the passes, the task's before the balances."""
    task, balance = 0.0, 0.0
    for each in passes:
        task += next(numbers) * each.weight / each.total
    for each in passes:
        balance += 0.0 if each.balance is None else next(numbers)
    task, balance = distributed.all_reduce_floats([task, balance], device)
    return _Done(task, balance if any(each.balance is not None for each in passes) else None, norm)


def _dropout_seed(microbatch: Microbatch, step_seed: int) -> int:
    """Return the seed of a microbatch's dropout: whoever computes a whole one drops the same."""
    return stream_seed(step_seed, f"{microbatch.index}/{distributed.rank() if microbatch.is_split else 0}")


def _whole_weights(own: Sequence[Microbatch], weights: Sequence[int], device: torch.device) -> list[float]:
    """Return the weight of every microbatch of the effective batch, over all processes."""
    of_index = [0.0] * own[0].count
    for microbatch, weight in zip(own, weights, strict=True):
        of_index[microbatch.index] = float(weight)
    return distributed.all_reduce_floats(of_index, device)


def _require_finite(step: int, done: _Done, learning_rate: float) -> None:
    for name, value in (("loss", done.task), ("gradient norm", done.norm)):
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} must be finite, got {value} at step {step}; lower train.learning_rate (now {learning_rate:g})"
            )
