"""The largest batch of one pass that fits into a memory, with and without what saves memory."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from molex_cli.config.schema import Experiment
from molex_cli.runtime.hardware import Base, Precision
from molex_cli.training.memory.rehearsal import Rehearsal

RECOMPUTE = "hardware.activation_checkpointing=true"
FOUR_BIT = ("hardware.precision=bf16", "hardware.base=nf4")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The largest batch that fits with some settings."""

    settings: list[str]
    """What is set beside the run's own settings."""
    batch_size: int | None
    """train.batch_size; None where not even one row fits."""
    gradient_accumulation_steps: int | None
    """With which the effective batch stays what it is."""
    peak: int
    """Bytes, of this batch or of one row."""

    @property
    def batch(self) -> str:
        """Return the batch as settings for molex train."""
        return (
            f"train.batch_size={self.batch_size} train.gradient_accumulation_steps={self.gradient_accumulation_steps}"
        )


def fits(own: Rehearsal, labels: Sequence[str], limit: int) -> Iterator[Fit]:
    """Yield what of a run fits: as set, then with recomputation, with frozen weights of 4 bits, and with both."""
    experiment = own.experiment
    for settings, changed in _variants(experiment):
        rehearsal = Rehearsal(changed, labels) if settings else own
        if FOUR_BIT[-1] not in settings or rehearsal.has_four_bits:
            yield _largest(rehearsal, experiment, settings, limit)


def _largest(rehearsal: Rehearsal, experiment: Experiment, settings: list[str], limit: int) -> Fit:
    """Return the largest divisor of the effective batch whose step fits."""
    effective = experiment.train.batch_size * experiment.train.gradient_accumulation_steps
    sizes = [size for size in range(1, effective + 1) if effective % size == 0]

    def peak(size: int) -> int:
        return rehearsal.step(size, accumulates=size < effective).peak

    def fit(size: int, needed: int) -> Fit:
        return Fit(settings=settings, batch_size=size, gradient_accumulation_steps=effective // size, peak=needed)

    # The whole batch adds to no earlier gradients, so it can need less than a part; parts need the more the larger.
    if (needed := peak(effective)) <= limit:
        return fit(effective, needed)
    low, high, best = 0, len(sizes) - 2, None
    while low <= high:
        middle = (low + high) // 2
        needed = peak(sizes[middle])
        if needed <= limit:
            low, best = middle + 1, fit(sizes[middle], needed)
        else:
            high = middle - 1
    return best or Fit(settings=settings, batch_size=None, gradient_accumulation_steps=None, peak=needed)


def _variants(experiment: Experiment) -> Iterator[tuple[list[str], Experiment]]:
    """Yield the settings to add, and the experiment with them."""
    hardware = experiment.hardware
    recompute = [True] if hardware.activation_checkpointing else [False, True]
    four_bit = [True] if hardware.base is Base.nf4 else [False, True]
    for small, again in itertools.product(four_bit, recompute):
        changed = replace(hardware, activation_checkpointing=again)
        if small:
            changed = replace(changed, precision=Precision.bf16, base=Base.nf4)
        settings = [*(FOUR_BIT if small and hardware.base is not Base.nf4 else ())]
        settings += [RECOMPUTE] if again and not hardware.activation_checkpointing else []
        yield settings, replace(experiment, hardware=changed)
