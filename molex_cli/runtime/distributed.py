"""The processes that share one run, through torch.distributed; with one process nothing is sent."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
BUCKET_BYTES = 25 * 2**20  # as torch's own data parallel


def rank() -> int:
    """Return this process's number among those of the run, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes share the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, without a gradient."""
    total = tensor.detach().clone()
    if world_size() == 1:
        return total
    if total.device.type == "cpu" and dist.get_backend() == dist.Backend.NCCL:
        return torch.stack(all_gather([total])).sum(0)
    dist.all_reduce(total)
    return total


def all_reduce_floats(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the sums of numbers over all processes."""
    if world_size() == 1:
        return list(values)
    return all_reduce(torch.tensor(values, dtype=torch.float64, device=device)).tolist()


def all_gather(items: Sequence[T]) -> list[T]:
    """Return the items of all processes, those of the first process first."""
    if world_size() == 1:
        return list(items)
    lists: list[Any] = [None] * world_size()
    dist.all_gather_object(lists, list(items))
    return [item for each in lists for item in each]


def broadcast(value: T) -> T:
    """Return the first process's value."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box)
    return box[0]


def all_reduce_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Add up the gradients of all processes; a parameter that got none anywhere keeps none.

    Sums and not DistributedDataParallel's means, after the last backward pass: what each microbatch weighs is in its
    loss already, and a process without rows needs no flags.
    """
    if world_size() == 1 or not parameters:
        return
    has_gradient = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    used = [p for p, count in zip(parameters, all_reduce(has_gradient).tolist(), strict=True) if count]
    for parameter in used:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    buckets = [(bucket, torch.cat([grad.flatten() for grad in bucket])) for bucket in _buckets(used)]
    waiting = [dist.all_reduce(flat, async_op=True) for _, flat in buckets]
    for work, (bucket, flat) in zip(waiting, buckets, strict=True):
        work.wait()
        for grad, part in zip(bucket, flat.split([grad.numel() for grad in bucket]), strict=True):
            grad.copy_(part.view_as(grad))


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> list[list[Tensor]]:
    """Return the gradients in groups of one type and at most BUCKET_BYTES: one message each instead of one a tensor."""
    buckets: list[list[Tensor]] = []
    room = 0
    for grad in (p.grad for p in parameters if p.grad is not None):
        size = grad.numel() * grad.element_size()
        if not buckets or size > room or grad.dtype is not buckets[-1][0].dtype:
            buckets.append([])
            room = BUCKET_BYTES
        buckets[-1].append(grad)
        room -= size
    return buckets


@contextmanager
def destroy_at_end() -> Iterator[None]:
    """Leave the group of processes when the run is over."""
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
