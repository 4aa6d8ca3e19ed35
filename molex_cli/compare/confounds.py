"""Confounds: everything in which the arms of a table differ besides the settings that name its rows and columns."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from molex_cli.compare.arms import VARIANT, defining, differing, is_among
from molex_cli.compare.loading import Run
from molex_cli.compare.table import Comparison
from molex_cli.records import NUMBER_FORMATS, flat
from molex_cli.records.made_from import ROWS

BUDGET_TOLERANCE = 0.01  # arms whose budgets differ by more than this share are not matched
BUDGETS: tuple[tuple[str, str, Callable[[Run], float | None]], ...] = (
    ("trainable parameters", "", lambda run: run.record.parameters.get("trainable")),
    ("active FLOPs", " a token", lambda run: run.record.flops_per_token.get("active")),
    ("training tokens", "", lambda run: run.record.training.get("tokens")),
)


CHOICE = ": the best of several is better by chance, and --tune chooses on rows and seeds that report nothing"


def confounds(table: Comparison) -> list[str]:
    """Return a line for each confound: settings, budgets, seeds, data, versions, code, hardware."""
    arms = {row: table.runs_of(row) for row in table.rows}
    lines = _settings(table, arms)
    for col in table.cols:
        own = {row: cell.runs for row, cell in table.column(col).items()}
        for name, unit, value in BUDGETS:
            lines += _budget(f"{name} in {col}", unit, own, value)
        lines += _factors(col, own)
        lines += _seeds(col, own) if table.is_judged else []  # a study's race adds seeds where they are needed
        lines += _differ(f"data differ in {col}", own, _fingerprints)
        lines += _differ(f"classes that are scored differ in {col}", own, _positive)
        lines += [*_tuning(table, col), *(_choices(col, own) if table.is_judged else [])]
        if not any(key.endswith("learning_rate") for key in _fairly_tuned(table, col)):
            lines += _differ(f"learning rates in {col}", own, _learning_rate)
        if table.which == "best":
            lines += _differ(f"the best was chosen by other rules in {col}", own, _selection)
    return [*lines, *_differ("published variants are compared with others", arms, _published), *_environment(arms)]


def _seeds(col: str, arms: dict[str, list[Run]]) -> list[str]:
    """Return a line with the seeds of each arm if they differ; two arms are compared on the seeds that both have."""
    found: dict[str, set[str]] = {}
    for row, runs in arms.items():
        found.setdefault(", ".join(map(str, sorted(run.record.seed for run in runs))), set()).add(row)
    return [f"seeds differ in {col}: {_listed(found)}"] if len(found) > 1 else []


def _factors(col: str, arms: dict[str, list[Run]]) -> list[str]:
    """Return a line where ranks differ, by arm or by layer, and alpha over rank makes the factor of B A differ too."""
    updates = {row: update for row, runs in arms.items() if (update := _update(runs[0]))}
    ranks = {rank for update in updates.values() for rank in update.ranks}
    factors = {row: update.factors() for row, update in updates.items()}
    if len(ranks) < 2 or len(set().union(*factors.values())) < 2 or all(each.is_root for each in updates.values()):
        return []
    shown: dict[str, set[str]] = {}
    for row, several in factors.items():
        shown.setdefault(" to ".join(f"{value:.3g}" for value in sorted({min(several), max(several)})), set()).add(row)
    return [f"factors of the updates, alpha over rank, differ in {col}: {_listed(shown)}"]


def _update(run: Run) -> "_Update | None":
    """Return what a run's low-rank updates are scaled by; None for a method without any."""
    method = run.record.settings["method"]
    settings = method.get("lora") if method.get("inner") == "lora" else method
    rank, alpha = (settings.get(name) if isinstance(settings, dict) else None for name in ("rank", "alpha"))
    if not isinstance(rank, int) or not isinstance(alpha, int | float):
        return None
    ranks = frozenset(each for each in run.record.rank_per_layer or [rank] if each > 0)
    return _Update(ranks, alpha, settings.get("scaling") == "alpha_over_root_rank") if ranks else None


class _Update(NamedTuple):
    ranks: frozenset[int]
    """Of the layers that have one."""
    alpha: float
    is_root: bool
    """Whether alpha is divided by the root of the rank."""

    def factors(self) -> set[float]:
        return {self.alpha / (rank**0.5 if self.is_root else rank) for rank in self.ranks}


def _fairly_tuned(table: Comparison, col: str) -> Sequence[str]:
    """Return the settings that every arm of a column tuned by as many trials: their values are no confound."""
    trials = {cell.tuned.trials if cell.tuned else 0 for cell in table.column(col).values()}
    return table.tuned if len(trials) == 1 else ()


def _tuning(table: Comparison, col: str) -> list[str]:
    """Return a line where arms had other numbers of trials, and for each setting of which other values were tried."""
    tuned = {row: cell.tuned for row, cell in table.column(col).items() if cell.tuned}
    lines = _told(f"trials of tuning in {col}", {row: str(each.trials) for row, each in tuned.items()})
    for key in table.tuned:
        tried = {row: ", ".join(map(str, each.grid[key])) for row, each in tuned.items()}
        lines += _told(f"values of {key} that were tried in {col}", tried)
    return lines


def _choices(col: str, arms: dict[str, list[Run]]) -> list[str]:
    """Return a line where one method has more rows than another: whoever takes the best of them flatters it."""
    counts = Counter(str(runs[0].setting("method")) for runs in arms.values())
    return [f"{line}{CHOICE}" for line in _told(f"rows of a method in {col}", {m: str(n) for m, n in counts.items()})]


def _learning_rate(run: Run) -> Any:
    return run.record.training.get("learning_rate")


def _positive(run: Run) -> str | None:
    positive: str | None = run.record.evaluation.get("positive")
    return positive


def _published(run: Run) -> bool:
    return bool(run.record.settings["method"].get("published"))


def _selection(run: Run) -> str:
    return run.record.scores.get("selection", "an unknown rule")


def _settings(table: Comparison, arms: dict[str, list[Run]]) -> list[str]:
    """Return a line for each setting in which arms differ although no row or column is named after it."""
    studied = (*table.row_keys, *table.col_keys, *table.studied)
    found: dict[str, dict[str, set[str]]] = {}
    for col in table.cols:
        column, expected = table.column(col), (*studied, *_fairly_tuned(table, col))
        values = {row: defining(cell.runs[0]) for row, cell in column.items()}
        for key in differing(list(values.values())):
            if not _is_expected(key, expected):
                for row, each in values.items():
                    found.setdefault(key, {}).setdefault(str(each.get(key)), set()).add(row)
    return [f"{key} differs: {_listed(values)}" for key, values in found.items()]


def _is_expected(key: str, expected: Sequence[str]) -> bool:
    """Return whether arms may differ in a setting: it is studied or tuned, or has a line of its own."""
    return key == VARIANT or key.startswith(("hardware.", ROWS)) or is_among(key, expected)


def _budget(name: str, unit: str, arms: dict[str, list[Run]], value: Callable[[Run], float | None]) -> list[str]:
    means = {row: _mean([value(run) for run in runs]) for row, runs in arms.items()}
    known = {row: mean for row, mean in means.items() if mean}
    if not known or max(known.values()) <= (1 + BUDGET_TOLERANCE) * min(known.values()):
        return []
    low, high = min(known, key=lambda row: known[row]), max(known, key=lambda row: known[row])
    ends = f"{low} {known[low]:,.4g}{unit}, {high} {known[high]:,.4g}{unit}"
    return [f"{name}: {ends} (x {known[high] / known[low]:.2f})"]


def _fingerprints(run: Run) -> str:
    return " ".join(f"{split} {str(about.get('fingerprint'))[:8]}" for split, about in run.record.data.items())


def _environment(arms: dict[str, list[Run]]) -> list[str]:
    lines = []
    packages = [flat(run.record.environment.get("packages", {})) for runs in arms.values() for run in runs]
    for name in differing(packages):
        lines += _differ(f"{name} versions differ", arms, partial(_version, name))
    lines += _differ("code differs", arms, _commit)
    lines += _differ("GPUs differ", arms, _gpu)
    for name in NUMBER_FORMATS:
        lines += _differ(f"hardware.{name} differs", arms, partial(_hardware, name))
    return lines


def _version(package: str, run: Run) -> Any:
    return run.record.environment.get("packages", {}).get(package)


def _hardware(name: str, run: Run) -> Any:
    return run.record.settings["hardware"].get(name)


def _gpu(run: Run) -> Any:
    return run.record.environment.get("hardware", {}).get("gpu")


def _commit(run: Run) -> str:
    git = run.record.environment.get("git") or {}
    return f"{str(git.get('commit'))[:10]}{' with changes' if git.get('dirty') else ''}"


def _differ(what: str, arms: dict[str, list[Run]], value: Callable[[Run], Any]) -> list[str]:
    """Return a line with the arms of each value if the runs differ in it."""
    found: dict[str, set[str]] = {}
    for row, runs in arms.items():
        for run in runs:
            found.setdefault(str(value(run)), set()).add(row)
    return [f"{what}: {_listed(found)}"] if len(found) > 1 else []


def _told(what: str, by_row: Mapping[str, str]) -> list[str]:
    """Return a line with the arms of each value if the arms differ in it."""
    found: dict[str, set[str]] = {}
    for row, value in by_row.items():
        found.setdefault(value, set()).add(row)
    return [f"{what}: {_listed(found)}"] if len(found) > 1 else []


def _listed(values: dict[str, set[str]]) -> str:
    return "; ".join(f"{value} ({', '.join(sorted(rows))})" for value, rows in values.items())


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
