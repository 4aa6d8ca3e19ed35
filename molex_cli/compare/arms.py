"""Which runs are one arm: those that differ in nothing but the seed."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from molex_cli.compare.loading import Run
from molex_cli.records.made_from import is_data, of_record
from molex_cli.records.renamed import is_later, value_before

GROUPS = ("method", "model", "task")
VARIANT = "variant"
DIGITS = 6  # of a setting
RULE, COUNTS = "method.allocation.rule", "method.allocation.layers"


def label(
    run: Run,
    keys: Sequence[str],
    distinguishing: Mapping[str, Sequence[str]] | None = None,
    shown: Callable[[Any], str] = str,
) -> str:
    """Return the name of a run's row or column, with the settings that distinguish it from others of that name."""
    extra = _extra(run, keys, distinguishing)
    named = ", ".join(f"{key}={shown(value)}" for key, value in extra.items())
    return _name(run, keys, shown) + (f" ({named})" if named else "")


def _name(run: Run, keys: Sequence[str], shown: Callable[[Any], str] = str) -> str:
    values = {key: shown(run.setting(key)) for key in keys}
    return " ".join(value if key in GROUPS else f"{key}={value}" for key, value in values.items()) or "all"


def _extra(run: Run, keys: Sequence[str], distinguishing: Mapping[str, Sequence[str]] | None) -> dict[str, Any]:
    """Return the settings that distinguish a run's row from others of its name."""
    extra, values = (distinguishing or {}).get(_name(run, keys), ()), defining(run)
    return {key: values.get(key, value_before(key) if is_later(key) else "unset") for key in extra}


def in_order(rows: Mapping[str, Run], keys: Sequence[str], distinguishing: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the rows as people look for them: by method and the like as they came, then by the size of settings."""
    came: dict[Any, int] = {}

    def rank(row: str) -> list[Any]:
        run = rows[row]
        groups = tuple(str(run.setting(key)) for key in keys if key in GROUPS)
        settings = [run.setting(key) for key in keys if key not in GROUPS]
        extra = _extra(run, keys, distinguishing).values()
        return [came.setdefault(groups, len(came)), *map(rank_of, (*settings, *extra))]

    return sorted(rows, key=rank)


def rank_of(value: Any) -> tuple[bool, float, str]:
    """Return what sorts values: numbers by size, then the others by their text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (False, value, "") if is_number else (True, 0.0, str(value))


def shown(value: Any) -> str:
    """Return a setting's value as people read it: 0.1 + 0.2 is 0.3."""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, dict):  # a section: what is set in it
        return f"{{{', '.join(f'{key}: {shown(each)}' for key, each in value.items() if each is not None)}}}"
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, list) else str(value)


def by_label(runs: Sequence[Run], keys: Sequence[str]) -> dict[str, list[Run]]:
    """Return the runs by the name of their row or column."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(label(run, keys), []).append(run)
    return found


def distinguishing_settings(
    runs: Sequence[Run], rows: Sequence[str], cols: Sequence[str], tuned: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return for each row the settings in which its runs differ within a column: they are no seeds of one arm.

    Settings that are `tuned` tell no arms apart.
    """
    found: dict[str, set[str]] = {}
    for row, in_row in by_label(runs, rows).items():
        for in_cell in by_label(in_row, cols).values():
            if keys := differing([defining(run) for run in in_cell]):
                named = [key for key in keys if key != VARIANT]
                found.setdefault(row, set()).update(named or keys)
    return {row: sorted(key for key in keys if not is_among(key, tuned)) for row, keys in found.items()}


def is_among(key: str, settings: Sequence[str]) -> bool:
    """Return whether a setting is one of some, or a part of one."""
    return any(key == setting or key.startswith(f"{setting}.") for setting in settings)


@cache
def defining(run: Run) -> dict[str, Any]:
    """Return what the runs of an arm share, by full key: settings, number formats, rows, labels and base model."""
    found = {**of_record(run.record), VARIANT: run.record.variant}
    if found.get(RULE) is not None:  # which says all that the counts it gave say
        found.pop(COUNTS, None)
    return found


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not all the same; of data, those that are known."""
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({_value(each, key) for each in settings} - {None}) > 1]


def _value(settings: Mapping[str, Any], key: str) -> str | None:
    if key in settings:
        return repr(settings[key])
    return None if is_data(key) else ""
