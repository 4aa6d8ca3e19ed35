"""A run that is out of memory says what would fit."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from molex_cli.config.schema import Experiment
from molex_cli.errors import TrainingError
from molex_cli.runtime import sizes
from molex_cli.runtime.hardware import available_memory
from molex_cli.training.memory.fit import FOUR_BIT, Fit, fits
from molex_cli.training.memory.rehearsal import Rehearsal

NO_ROOM = ("DefaultCPUAllocator", "ALLOC_FAILED", "CUDA error: out of memory")  # in plain RuntimeErrors
MARGIN = 0.9  # of a memory: gaps between blocks, and what other libraries take


@contextmanager
def memory_errors_told(experiment: Experiment, labels: Sequence[str]) -> Iterator[None]:
    """Turn an error of the allocator into a line that names settings that fit."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(_line(experiment, labels, error)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python's, torch's, CUDA's or the system's allocator found no room."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(each in str(error) for each in NO_ROOM)


def _line(experiment: Experiment, labels: Sequence[str], error: BaseException) -> str:
    batch = experiment.train.batch_size
    reason = " ".join(str(error).split()).partition(". ")[0] or "no memory was left"
    start = f"train.batch_size={batch} must fit into memory, got: {reason}"
    try:
        return f"{start}; {_way_out(experiment, labels)}"
    except Exception:  # planning must not hide what happened
        return f"{start}; set a smaller train.batch_size"


def _way_out(experiment: Experiment, labels: Sequence[str]) -> str:
    there = int(available_memory(experiment.hardware) * MARGIN)
    own = Rehearsal(experiment, labels)
    peak = own.own_step().peak
    needs = f"a step needs {sizes.shown(peak)}"
    if peak <= there < (scoring := own.scoring_peak()):
        smaller = max(1, experiment.train.eval_batch_size // 4)
        return f"{needs}, scoring {sizes.shown(scoring)}; set train.eval_batch_size={smaller}"
    # It did not fit, whatever the plan says of it.
    found: list[Fit] = []
    for fit in fits(own, labels, min(there, int(peak * MARGIN))):
        if FOUR_BIT[-1] in fit.settings and found:
            break
        found += [fit] if fit.batch_size else []
    if not found:
        return f"{needs}, and nothing that molex plan --fit tries fits"
    named = ", or ".join(f"{' '.join([fit.batch, *fit.settings])} ({sizes.shown(fit.peak)})" for fit in found)
    return f"{needs}; {named} would fit"
