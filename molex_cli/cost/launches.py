"""How many kernels a GPU is given in a training step, as torch's profiler sees them: the real count of `operations`.

The forward and backward pass of a step are profiled, with the balance loss and the tallies of the routers; then, apart,
the optimizer's update.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.profiler import profile

from molex_cli.cost.measuring import Bench, room_for
from molex_cli.errors import ConfigError, MolexError
from molex_cli.runtime import hardware

LAUNCH = ("cudaLaunchKernel", "cudaLaunchCooperativeKernel", "cuLaunchKernel", "hipLaunchKernel", "hipExtLaunchKernel")
COPY = ("cudaMemcpyAsync", "cudaMemsetAsync", "hipMemcpy", "hipMemset")
ON_GPU = ("Memcpy", "Memset")
"""Begins of what the GPU does that is no kernel."""
WARM_UP_STEPS = 3


@dataclass
class Work:
    """What a GPU was given."""

    launches: int = 0
    copies: int = 0
    """Copies and fills of memory that are no kernels."""
    microseconds: float = 0.0
    """What the GPU computed, the pauses between its kernels left out."""
    kernels: Counter[str] = field(default_factory=Counter)
    """By name."""


@dataclass(kw_only=True)
class Arm:
    """The kernels of one arm's step."""

    name: str
    launches: int
    """Kernels launched in the forward and backward pass."""
    ratio: dict[str, float]
    """Of `launches`: to the floor, to PEFT and to the yardsticks of the methods."""
    copies: int
    """Of memory in the forward and backward pass, and fills of it."""
    optimizer_launches: int
    gpu_milliseconds: float
    """Of all kernels of the forward and backward pass: without the time in which the GPU waits for the next one."""
    kernels: dict[str, int]
    """Kernels that ran in the forward and backward pass by name, the commonest first."""


def counted(bench: Bench) -> list[Arm]:
    """Return the kernels of each arm's step; raise ConfigError where the settings do not compute on a GPU."""
    settings = bench.experiments[0].hardware
    hardware.require_device(settings)
    if not hardware.computes_on_gpu(settings):
        raise ConfigError(
            "--launches must have a GPU to compute on, got cpu; --operations hardware.device=cuda counts without one"
        )
    found = {name: _of_arm(bench, name) for name in bench.names}
    if blind := [name for name, (passes, _) in found.items() if not passes.launches]:
        raise MolexError(f"--launches must be seen by torch's profiler, got none of {blind[0]}; permit CUPTI")
    ratios = bench.ratios({name: float(passes.launches) for name, (passes, _) in found.items()})
    return [
        Arm(
            name=name,
            launches=passes.launches,
            ratio=ratios[name],
            copies=passes.copies,
            optimizer_launches=update.launches,
            gpu_milliseconds=passes.microseconds / 1000,
            kernels=dict(passes.kernels.most_common()),
        )
        for name, (passes, update) in found.items()
    ]


def _of_arm(bench: Bench, name: str) -> tuple[Work, Work]:
    """Return what the passes and the update of one step give to the GPU."""
    hardware.give_back_memory()
    with room_for(bench.work, name):
        step = bench.stepper(name)
        for _ in range(WARM_UP_STEPS):
            step()
        profiled(step.backward)  # the start of a process's first profile takes long, and may hide what comes at once
        step.update()
        return tally(profiled(step.backward)), tally(profiled(step.update))


def profiled(work: Callable[[], None]) -> Sequence[Any]:
    """Return the profiler's events of some work, which nothing before it and nothing after it is part of."""
    hardware.wait_for_gpu()
    with profile(acc_events=True) as profiler:  # of all that this torch and machine can see
        work()
        hardware.wait_for_gpu()
    return list(profiler.events())


def tally(events: Iterable[Any]) -> Work:
    """Count the launches in a profile, and what then ran on the GPU."""
    work = Work()
    for event in events:
        if event.device_type.name == "CPU":
            work.launches += event.name.startswith(LAUNCH)
            work.copies += event.name.startswith(COPY)
        elif not event.is_user_annotation and not event.name.startswith(ON_GPU):
            work.kernels[event.name] += 1
            work.microseconds += event.time_range.elapsed_us()
    return work
