"""The values that an override of a sweep stands for, and what makes no sweep of it."""

import dataclasses
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Sweep,
    ValueType,
)

from molex_cli.config.command_line import options
from molex_cli.config.parsing import parsed

OPTIMISE = "add hydra/sweeper=optuna, which draws from it"
MOST_JOBS = 5_000
"""Jobs of one sweep: each is checked and written down before the first begins."""


def listed(override: Override, folders: Sequence[Path]) -> Override:
    """Return a glob as the choice of the files that it matches in these folders, for Hydra too; others as they are."""
    given = override.value()
    if not isinstance(given, Glob):
        return override
    names = [QuotedString(name, Quote.double) for name in given.filter(options(override.key_or_group, folders))]
    text = f"{override.get_key_element()}=choice({','.join(name.with_quotes() for name in names)})"
    return dataclasses.replace(
        override,
        value_type=ValueType.CHOICE_SWEEP,
        _value=ChoiceSweep(list=list(names)),
        # What matches nothing is refused, with the text as it was typed.
        input_line=text if names else override.input_line,
    )


def sweep_problems(override: Override, folders: Sequence[Path]) -> Iterator[str]:
    """Yield why the override of a sweep stands for no values, for one twice, or for a sweep within a sweep."""
    if not override.is_sweep_override():
        return
    choices = options(override.key_or_group, folders)
    key, text = override.key_or_group, (override.input_line or "").partition("=")[2]
    if isinstance(given := override.value(), IntervalSweep):
        if not (given.start or 0) < (given.end or 0):
            yield f"{key} must be an interval from a lower to a higher number, got {text}; write interval(low,high)"
        return
    if isinstance(given, RangeSweep) and not _has_end(given):
        rule = "between finite numbers" if given.step else "with a step other than 0"
        yield f"{key} must be a range {rule}, got {text}"
        return
    if (count := _count(override)) > MOST_JOBS:
        yield f"{key} must have at most {MOST_JOBS:,} values, got {_many(count)}; make several sweeps of them"
        return
    values = values_of(override)
    if not values:
        hint = f"choose from {', '.join(choices)}" if choices else "range(a,b) goes from a to below b"
        yield f"{key} must have at least one value, got {text}, which has none; {hint}"
    if any(isinstance(value, Sweep) for value in values):
        yield f"{key} must be one list of values, got {text}, a sweep within a sweep; write all values in one list"
    elif twice := [value for i, value in enumerate(values) if _same_in(value, values[:i])]:
        yield f"{key} must have each value once, got {as_text(twice[0])} twice in {text}"


def size_problems(given: Iterable[Override]) -> Iterator[str]:
    """Yield why a sweep has too many jobs."""
    counts = {o.key_or_group: _count(o) for o in given if o.is_sweep_override() and not o.is_interval_sweep()}
    if (jobs := math.prod(counts.values())) > MOST_JOBS:
        product = " x ".join(f"{count:,} of {key}" for key, count in counts.items())
        yield f"a sweep must have at most {MOST_JOBS:,} jobs, got {_many(jobs)} ({product}); make several sweeps of it"


def needs_optimiser(override: Override) -> list[str]:
    """Return why an override is no part of a sweep without an optimiser."""
    if not isinstance(override.value(), IntervalSweep):
        return []
    key, _, text = (override.input_line or "").partition("=")
    return [f"{key} must be a list of values, got {text}, which has no end of them; {OPTIMISE}"]


def values_of(override: Override) -> list[Any]:
    """Return every value that an override stands for; of an interval, from which an optimiser draws, both ends.

    A range with too many, which is refused, has none.
    """
    given = override.value()
    if isinstance(given, IntervalSweep):
        return [given.start, given.end]
    if isinstance(given, RangeSweep):
        values = list(_range(given)) if _has_end(given) and _count(override) <= MOST_JOBS else []
        return random.sample(values, len(values)) if given.shuffle else values
    if override.is_sweep_override():
        return [_plain(value) for value in override.sweep_iterator()]
    return [given]


def choices_of(override: Override) -> list[str]:
    """Return the names of the files that the override of a group stands for."""
    return [as_text(value) for value in values_of(override)]


def as_text(value: Any) -> str:
    """Return a value as it is typed."""
    return "null" if value is None else str(value)


def typed(setting: str) -> str:
    """Return `key=value` so that the value is read as it is: in quotes where it would be taken for another thing."""
    key, _, value = setting.partition("=")
    found, problems = parsed([setting])
    if problems or found[0].is_sweep_override() or as_text(found[0].value()) != value:
        return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    return setting


def _has_end(given: RangeSweep) -> bool:
    return given.step != 0 and all(math.isfinite(each or 0) for each in (given.start, given.stop, given.step))


def _count(override: Override) -> int:
    """Return how many values an override stands for, without making them."""
    if not isinstance(given := override.value(), RangeSweep):
        return len(values_of(override))
    if isinstance(whole := given.range(), range):
        return max(0, -((whole.start - whole.stop) // whole.step))
    start, stop, step = _decimals(given)
    return max(0, math.ceil((stop - start) / step))


def _range(given: RangeSweep) -> Iterator[int | float]:
    """Yield the numbers as one would type them: sums of binary fractions drift, and 0.30000000000000004 is no 0.3."""
    if isinstance(whole := given.range(), range):
        yield from whole
        return
    start, stop, step = _decimals(given)
    count = 0
    while (value := start + count * step) != stop and (value < stop) == (step > 0):
        yield float(value)
        count += 1


def _decimals(given: RangeSweep) -> tuple[Decimal, Decimal, Decimal]:
    start, stop, step = (Decimal(repr(each)) for each in (given.start, given.stop, given.step))
    return start, stop, step


def _many(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "more than a million billions"


def _same_in(value: Any, others: Sequence[Any]) -> bool:
    return any(value == other and isinstance(value, bool) is isinstance(other, bool) for other in others)


def _plain(value: Any) -> Any:
    """Return a value of a sweep without the quotes that it was written in."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value.text if isinstance(value, QuotedString) else value
