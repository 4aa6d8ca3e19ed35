"""The largest batch of one pass that fits into a memory, with and without what saves memory."""

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
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
    shares = {size: rehearsal.share(size) for size in range(1, effective + 1) if effective % size == 0}
    if rehearsal.step_of(effective).peak <= limit:
        most = effective
    else:
        fitting = {share for several in (False, True) for share in _fitting(rehearsal, shares, several, limit)}
        most = max((size for size, share in shares.items() if share in fitting), default=0)
    peak = rehearsal.step_of(most or 1).peak
    if not most:
        return Fit(settings=settings, batch_size=None, gradient_accumulation_steps=None, peak=peak)
    return Fit(settings=settings, batch_size=most, gradient_accumulation_steps=effective // most, peak=peak)


def _fitting(
    rehearsal: Rehearsal, shares: Mapping[int, tuple[int, bool]], several: bool, limit: int
) -> Iterator[tuple[int, bool]]:
    """Yield the shares of one pass, or of several, that fit: of these each needs the more the more rows it has.

    One pass adds to no earlier gradients, so it can need less than several of fewer rows.
    """
    rows = sorted({rows for rows, accumulates in shares.values() if accumulates is several})
    count = bisect_right(rows, limit, key=lambda each: rehearsal.step(each, accumulates=several).peak)
    yield from ((each, several) for each in rows[:count])


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
