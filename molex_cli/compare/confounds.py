"""Confounds: everything in which the arms of a table differ besides the settings that name its rows and columns."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from molex_cli.compare.arms import VARIANT, defining, differing, is_among, rank_of, shown
from molex_cli.compare.loading import Run
from molex_cli.compare.remarks import Heading, Note
from molex_cli.compare.table import Comparison
from molex_cli.records import NUMBER_FORMATS, flat
from molex_cli.records.made_from import ROWS

BUDGET_TOLERANCE = 0.01  # arms whose budgets differ by more than this share are not matched
PROMPTS = "prompts"
Values = dict[str, tuple[Any, set[str]]]
"""The values of something with the rows that have each."""
BUDGETS: tuple[tuple[str, str, Callable[[Run], float | None]], ...] = (
    ("trainable parameters", "", lambda run: run.record.parameters.get("trainable")),
    ("active FLOPs", " a token", lambda run: run.record.flops_per_token.get("active")),
    ("training tokens", "", lambda run: run.record.training.get("tokens")),
)


CHOICE = ": the best of several is better by chance, and --tune chooses on rows and seeds that report nothing"


def confounds(table: Comparison) -> list[Note]:
    """Return a note for each confound: settings, budgets, seeds, data; as details versions, code, hardware."""
    arms = {table.name(row): table.runs_of(row) for row in table.rows}
    published = _differ("published variants are compared with others", arms, _published)
    lines = [*_settings(table), *_merged({col: _of_column(table, col) for col in table.cols}), *published]
    details = [Note(Heading.confounds, line, is_detail=True) for line in _environment(arms)]
    return [*(Note(Heading.confounds, line) for line in lines), *details]


def _of_column(table: Comparison, col: str) -> list[str]:
    """Return the confounds of a column."""
    own = {table.name(row): cell.runs for row, cell in table.column(col).items()}
    lines = [line for name, unit, value in BUDGETS for line in _budget(name, unit, own, value)]
    lines += _factors(own)
    lines += _seeds(own) if table.is_judged else []  # a study's race adds seeds where they are needed
    lines += _differ("data differ", own, _fingerprints)
    lines += _differ("classes that are scored differ", own, _positive)
    lines += _protocols(own)
    lines += [*_tuning(table, col), *(_choices(own) if table.is_judged else [])]
    if not any(key.endswith("learning_rate") for key in _fairly_tuned(table, col)):
        lines += _differ("learning rates", own, _learning_rate)
    if table.which == "best":
        lines += _differ("the best was chosen by other rules", own, _selection)
    return lines


def _merged(by_column: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines with the columns that they hold for, one that holds for several once."""
    columns: dict[str, list[str]] = {}
    for col, lines in by_column.items():
        for line in lines:
            columns.setdefault(line, []).append(col)
    found = ((*line.partition(": "), cols) for line, cols in columns.items())
    return [f"{what} in {', '.join(cols)}{colon}{told}" for what, colon, told, cols in found]


def _seeds(arms: dict[str, list[Run]]) -> list[str]:
    """Return a line with the seeds of each arm if they differ; two arms are compared on the seeds that both have."""
    seeds = {row: ", ".join(map(str, sorted(run.record.seed for run in runs))) for row, runs in arms.items()}
    return _told("seeds differ", seeds)


def _factors(arms: dict[str, list[Run]]) -> list[str]:
    """Return a line where ranks differ, by arm or by layer, and alpha over rank makes the factor of B A differ too."""
    updates = {row: update for row, runs in arms.items() if (update := _update(runs[0]))}
    ranks = {rank for update in updates.values() for rank in update.ranks}
    factors = {row: update.factors() for row, update in updates.items()}
    if len(ranks) < 2 or len(set().union(*factors.values())) < 2 or all(each.is_root for each in updates.values()):
        return []
    told: Values = {}
    for row, own in factors.items():
        _add(told, " to ".join(f"{each:.3g}" for each in sorted({min(own), max(own)})), row)
    return [f"factors of the updates, alpha over rank, differ: {_listed(told)}"]


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
    tuned = {table.name(row): cell.tuned for row, cell in table.column(col).items() if cell.tuned}
    lines = _told("trials of tuning", {row: each.trials for row, each in tuned.items()})
    for key in table.tuned:
        tried = {row: ", ".join(map(shown, each.grid[key])) for row, each in tuned.items()}
        lines += _told(f"values of {key} that were tried", tried)
    return lines


def _choices(arms: dict[str, list[Run]]) -> list[str]:
    """Return a line where one method has more rows than another: whoever takes the best of them flatters it."""
    counts = Counter(str(runs[0].setting("method")) for runs in arms.values())
    names = {str(run.setting("method")): run.record.display.get("method", "") for runs in arms.values() for run in runs}
    return [f"{line}{CHOICE}" for line in _told("rows of a method", {names[m] or m: n for m, n in counts.items()})]


def _learning_rate(run: Run) -> Any:
    return run.record.training.get("learning_rate")


def _positive(run: Run) -> str | None:
    positive: str | None = run.record.evaluation.get("positive")
    return positive


def _protocols(arms: dict[str, list[Run]]) -> list[str]:
    """Return a line for each thing that decides a score of the harness or on a text and differs: versions, few-shot.

    The prompts' digest is told of where nothing else says why it differs.
    """
    protocols = [run.record.evaluation.get("protocol", {}) for runs in arms.values() for run in runs]
    keys = sorted({key for protocol in protocols for key in protocol} - {PROMPTS})
    lines = [
        line for key in keys for line in _differ(f"{key} of the evaluation differs", arms, partial(_protocol, key))
    ]
    return lines or _differ("prompts of the evaluation differ", arms, partial(_protocol, PROMPTS))


def _protocol(key: str, run: Run) -> Any:
    return run.record.evaluation.get("protocol", {}).get(key)


def _published(run: Run) -> bool:
    return bool(run.record.settings["method"].get("published"))


def _selection(run: Run) -> str:
    return run.record.scores.get("selection", "an unknown rule")


def _settings(table: Comparison) -> list[str]:
    """Return a line for each setting in which arms differ although no row or column is named after it."""
    studied = (*table.row_keys, *table.col_keys, *table.studied)
    found: dict[str, Values] = {}
    for col in table.cols:
        column, expected = table.column(col), (*studied, *_fairly_tuned(table, col))
        values = {table.name(row): defining(cell.runs[0]) for row, cell in column.items()}
        for key in differing(list(values.values())):
            if not _is_expected(key, expected):
                for name, each in values.items():
                    _add(found.setdefault(key, {}), each.get(key), name)
    return [f"{key} differs: {_listed(values)}" for key, values in sorted(found.items())]


def _is_expected(key: str, expected: Sequence[str]) -> bool:
    """Return whether arms may differ in a setting: it is studied or tuned, or has a line of its own."""
    return key == VARIANT or key.startswith(("hardware.", ROWS)) or is_among(key, expected)


def _budget(name: str, unit: str, arms: dict[str, list[Run]], value: Callable[[Run], float | None]) -> list[str]:
    means = {row: _mean([value(run) for run in runs]) for row, runs in arms.items()}
    known = {row: mean for row, mean in means.items() if mean}
    if not known or max(known.values()) <= (1 + BUDGET_TOLERANCE) * min(known.values()):
        return []
    low, high = min(known, key=lambda row: known[row]), max(known, key=lambda row: known[row])
    ends = f"{low} {known[low]:,.0f}{unit}, {high} {known[high]:,.0f}{unit}"
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
    found: Values = {}
    for row, runs in arms.items():
        for run in runs:
            _add(found, value(run), row)
    return [f"{what}: {_listed(found)}"] if len(found) > 1 else []


def _told(what: str, by_row: Mapping[str, str | int]) -> list[str]:
    """Return a line with the arms of each value if the arms differ in it."""
    found: Values = {}
    for row, value in by_row.items():
        _add(found, value, row)
    return [f"{what}: {_listed(found)}"] if len(found) > 1 else []


def _add(values: Values, value: Any, row: str) -> None:
    """Note that a row has a value; values that are printed alike are told apart."""
    values.setdefault(repr(value), (value, set()))[1].add(row)


def _listed(values: Values) -> str:
    """Return each value with its rows, sorted."""
    found = sorted(values.values(), key=lambda each: rank_of(each[0]))
    texts = [shown(value) for value, _ in found]
    exact = len(set(texts)) < len(texts)
    pairs = ((str(value) if exact else shown(value), rows) for value, rows in found)
    return "; ".join(f"{text} ({', '.join(sorted(rows))})" for text, rows in pairs)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0
