"""How long a training step takes and how much memory it needs, as ratios within one run.

On a CPU the arms take turns step by step, so that what else the machine does hits all of them alike. A GPU has no room
for all arms of a large model at once, and nobody else on it: there each arm has it to itself for a block of steps, then
all arms again in the reverse order.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from molex_cli.config import schema
from molex_cli.cost.training_step import Load, Step, arms_of, stepper, yardsticks
from molex_cli.errors import MolexError
from molex_cli.runtime import hardware
from molex_cli.training.memory.told import is_out_of_memory

WARM_UP_ROUNDS = 3
BLOCKS = 2


@dataclass(kw_only=True)
class Arm:
    """What was measured of one arm."""

    name: str
    milliseconds: float
    """Median over the rounds."""
    middle_half_milliseconds: tuple[float, float]
    """What the middle half of the rounds took, from its least to its most."""
    tokens_per_second: float
    time_ratio: dict[str, float] = field(default_factory=dict)
    """To the floor, to PEFT and to the yardsticks of the methods."""
    memory_bytes: int | None = None
    """Peak: of a process of its own over what it held before the model was loaded; on a GPU of what is allocated."""
    memory_ratio: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What is measured: the methods of these experiments, on this load."""

    experiments: Sequence[schema.Experiment]
    work: Load
    loop: bool = True
    """Whether the loop over experts is one of the arms."""
    random_weights: bool = False
    """Whether the base has random weights, made on the device, instead of those of its files."""

    @property
    def names(self) -> list[str]:
        """Return the arms, in order."""
        return list(arms_of(self.experiments, loop=self.loop))

    def stepper(self, name: str) -> Step:
        """Return what does a training step of an arm."""
        return stepper(name, self.experiments, self.work, random_weights=self.random_weights)

    def ratios(self, values: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Return of each arm's value the ratio to that of each yardstick."""
        others = yardsticks(self.experiments, values)
        return {name: {other: value / values[other] for other in others} for name, value in values.items()}


def measured(bench: Bench) -> list[Arm]:
    """Return the median step time of each arm and, on a GPU, its peak memory."""
    if not hardware.computes_on_gpu(bench.experiments[0].hardware):
        return _arms(bench, in_turn(bench))
    seconds, peaks = in_blocks(bench)
    arms = _arms(bench, seconds)
    with_memory(arms, peaks)
    return arms


def in_turn(bench: Bench) -> dict[str, list[float]]:
    """Return the seconds of each arm's steps; all arms are there at once and take turns."""
    steppers = {name: bench.stepper(name) for name in bench.names}
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(WARM_UP_ROUNDS + bench.work.rounds):
        for name, step in steppers.items():
            seconds[name].append(_timed(step))
    return {name: values[WARM_UP_ROUNDS:] for name, values in seconds.items()}


def in_blocks(bench: Bench) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return the seconds of each arm's steps and its peak memory; of the arms one is there at a time."""
    names = bench.names
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks = dict.fromkeys(names, 0)
    for name in [*names, *reversed(names)]:
        found, peak = _alone(bench, name)
        seconds[name] += found
        peaks[name] = max(peaks[name], peak)
        hardware.give_back_memory()
    return seconds, peaks


def _alone(bench: Bench, name: str) -> tuple[list[float], int]:
    """Return the seconds of a block of steps and the peak memory in it, in bytes."""
    with room_for(bench.work, name):
        step = bench.stepper(name)
        hardware.reset_peak_memory()
        seconds = [_timed(step) for _ in range(WARM_UP_ROUNDS + math.ceil(bench.work.rounds / BLOCKS))]
    return seconds[WARM_UP_ROUNDS:], hardware.peak_memory_bytes().get("gpu", 0)


@contextmanager
def room_for(work: Load, name: str) -> Iterator[None]:
    """Turn an error of the allocator into one line."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        size = f"{work.rows} rows of {work.tokens} tokens"
        raise MolexError(f"a step of {name} must fit into memory, got {size}; set fewer by --rows") from error


def _timed(step: Callable[[], None]) -> float:
    """Return the seconds of a step, from its first operation to the end of its last."""
    hardware.wait_for_gpu()
    started = time.perf_counter()
    step()
    hardware.wait_for_gpu()
    return time.perf_counter() - started


def _arms(bench: Bench, seconds: Mapping[str, Sequence[float]]) -> list[Arm]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = bench.ratios(medians)
    return [
        Arm(
            name=name,
            milliseconds=median * 1000,
            middle_half_milliseconds=middle_half(seconds[name]),
            tokens_per_second=bench.work.rows * bench.work.tokens / median,
            time_ratio=ratios[name],
        )
        for name, median in medians.items()
    ]


def middle_half(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the quartiles of some times, in milliseconds."""
    if len(seconds) == 1:
        return seconds[0] * 1000, seconds[0] * 1000
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low * 1000, high * 1000


def with_memory(arms: Sequence[Arm], bytes_of: Mapping[str, int]) -> None:
    """Fill in memory and its ratios."""
    for arm in arms:
        arm.memory_bytes = bytes_of[arm.name]
        arm.memory_ratio = {other: arm.memory_bytes / bytes_of[other] for other in arm.time_ratio}


def peak_memory(bench: Bench, name: str) -> int:
    """Return the bytes that building this arm and three steps of it add to this process at their peak."""
    hardware.accelerator(bench.experiments[0].hardware)  # what it imports is not the arm's
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    step = bench.stepper(name)
    for _ in range(3):
        step()
    return _resident("VmHWM") - before


def _resident(field_name: str) -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field_name))
    return int(line.split()[1]) * 1024
