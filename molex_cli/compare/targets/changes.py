"""In what a run differs from what a preset says: whatever was shortened or replaced forbids a verdict; no torch."""

from collections.abc import Iterator, Mapping
from typing import Any

from molex_cli.compare.arms import VARIANT, defining
from molex_cli.compare.loading import Run
from molex_cli.compare.targets.definition import Column, Targets
from molex_cli.records.made_from import is_data
from molex_cli.records.renamed import is_later, value_before

UNSET = "unset"
SOURCES = ("hub", "revision", "folder", "package", "package_folder", "pip")  # not gguf: most are quantised
# Where the weights of a model of that name come from, what its method is called, and how the forward pass is rounded.
OTHERWISE_THE_SAME = (*(f"model.{each}" for each in SOURCES), "method.display_name", "hardware.precision", VARIANT)
EVALUATIONS = ("train.evaluate_every", "train.evaluate_at_start")
BATCH = ("train.batch_size", "train.gradient_accumulation_steps")
FIRST = ("model.name", "task.name", "train.max_steps", "train.epochs", "train.max_rows", *BATCH)
"""Settings that are named first: those that make a run another or a shorter one."""
MOST_NAMED = 8

Settings = Mapping[str, Any]
"""Settings by their full key."""


def changes(run: Run, published: Settings, targets: Targets, arm: str, column: Column, which: str) -> list[str]:
    """Return what of a run is not as published, each in a few words; of many the first ones."""
    own = defining(run)
    different = [key for key in dict.fromkeys((*published, *own)) if value(own, key) != value(published, key)]
    kept = [key for key in different if not _is_the_same(key, own, published, which)]
    named = [
        f"{key}={shown(own, key)} instead of {shown(published, key)}"
        for key in sorted(_by_section(kept), key=_rank)
        if not targets.is_open(arm, key, value(own, key))
    ]
    found = [*_rows(run, column), *named]
    return [*found[:MOST_NAMED], *([f"{len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else [])]


def value(settings: Settings, key: str) -> Any:
    """Return a setting; of one that came later what it was before."""
    return settings.get(key, value_before(key) if is_later(key) else UNSET)


def shown(settings: Settings, key: str) -> str:
    """Return a setting as it is typed."""
    found = value(settings, key)
    return "null" if found is None else str(found).lower() if isinstance(found, bool) else str(found)


def _is_the_same(key: str, own: Settings, published: Settings, which: str) -> bool:
    """Return whether a difference changes nothing that is compared."""
    if key in OTHERWISE_THE_SAME or is_data(key) or (key in EVALUATIONS and which == "last"):
        return True
    if published.get("method.level") == "batch":  # the rows of a batch choose together
        return False
    return key == "train.eval_batch_size" or (key in BATCH and _batch(own) == _batch(published))


def _batch(settings: Settings) -> Any:
    """Return the rows of an optimizer step, which may be computed in any number of passes."""
    size, passes = (settings.get(key) for key in BATCH)
    return size * passes if isinstance(size, int) and isinstance(passes, int) else (size, passes)


def _by_section(keys: list[str]) -> Iterator[str]:
    """Yield the keys; of a model, method or task that is another one its name alone."""
    replaced = [name.partition(".")[0] for name in ("model.name", "method.name", "task.name") if name in keys]
    for key in keys:
        section = key.partition(".")[0]
        if section not in replaced or key == f"{section}.name":
            yield key


def _rank(key: str) -> int:
    return FIRST.index(key) if key in FIRST else len(FIRST)


def _rows(run: Run, column: Column) -> Iterator[str]:
    """Yield each split that has other rows than the paper's."""
    for split, published in column.rows.items():
        used = run.record.data.get(split, {}).get("rows_used")
        if used is None:
            yield f"an unknown number of rows in {split} instead of {published:,}"
        elif used != published:
            yield f"{used:,} rows in {split} instead of {published:,}"
