"""Published numbers beside ours: which runs repeat which number, how far off they are, and a verdict; no torch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from molex_cli.compare.arms import defining
from molex_cli.compare.collapse import ENOUGH_SEEDS, has_collapsed
from molex_cli.compare.judging import ADJUSTMENTS, ALPHA
from molex_cli.compare.loading import Run
from molex_cli.compare.table import Cell, Comparison
from molex_cli.compare.targets.changes import Settings, changes, value
from molex_cli.compare.targets.definition import Column, Targets
from molex_cli.metrics.base import METRICS
from molex_cli.records.made_from import made_from
from molex_cli.statistics.intervals import LEAST_SEEDS, Interval, published_interval, seed_interval

Compose = Callable[[tuple[str, ...]], Mapping[str, Any]]
"""From overrides to the settings that they make, as a record has them."""
UNKNOWN = Interval(math.nan, -math.inf, math.inf)


@dataclass(frozen=True)
class Target:
    """A published number and the runs that repeat it."""

    targets: Targets
    row: str
    col: str
    """Of our table."""
    arm: str
    column: str
    """Of the published one."""
    published: float | None
    ours: float = math.nan
    """Mean over seeds, in the unit of the published number."""
    seeds: int = 0
    to_number: Interval = UNKNOWN
    """Of our mean less the printed number."""
    to_mean: Interval = UNKNOWN
    """Of our mean less that of the published setting, whose runs vary, too."""
    against: tuple[str, ...] = ()
    """What forbids a verdict."""
    adjusted: float = math.nan
    """The p of `to_mean`, adjusted for all numbers that are judged."""

    @property
    def verdict(self) -> str:
        """Return reproduced, above, below or not decided, with the reason."""
        if self.against:
            return f"not decided: {'; '.join(self.against)}"
        return verdict(self.to_number, self.adjusted, self.targets.margin)


def verdict(to_number: Interval, p: float, margin: float) -> str:
    """Return what follows from the interval of our mean less the number, and from the p of the settings' difference.

    Reproduced where the interval lies within the margin (an equivalence test, 2.5 % on either side); else above or
    below where the settings differ significantly.
    """
    if -margin <= to_number.low and to_number.high <= margin:
        return "reproduced"
    if p < ALPHA:
        return "above" if to_number.estimate > 0 else "below"
    if to_number.low > margin or to_number.high < -margin:
        return "not decided: off the number, but another run of theirs may be, too"
    return f"not decided: the interval reaches beyond ±{margin:g}; more seeds make it narrower"


@dataclass
class Found:
    """The published numbers that runs of a table repeat, judged."""

    targets: list[Target] = field(default_factory=list)
    without_arm: list[tuple[Targets, str, str]] = field(default_factory=list)
    """Rows and columns of ours that repeat a column of a published table and none of its arms."""


def found_in(table: Comparison, all_targets: Sequence[Targets], compose: Compose) -> Found:
    """Return each published number that runs of the table repeat, with a verdict."""
    found = Found()
    for targets, (row, col), name in product(all_targets, table.cells, _columns(all_targets)):
        runs = _repeating(table.cells[row, col], targets.columns.get(name))
        if not runs:
            continue
        arm, settings = _arm(targets, targets.columns[name], runs[0], compose)
        if arm is None:
            found.without_arm.append((targets, row, col))
            continue
        target = Target(targets, row, col, arm, name, targets.number(arm, name))
        found.targets.append(_measured(target, runs, settings, targets.which or table.which))
    adjusted = ADJUSTMENTS[table.adjust]([math.nan if each.against else each.to_mean.p for each in found.targets])
    found.targets = [replace(each, adjusted=p) for each, p in zip(found.targets, adjusted, strict=True)]
    return found


def _columns(all_targets: Sequence[Targets]) -> list[str]:
    return list(dict.fromkeys(name for targets in all_targets for name in targets.columns))


def _repeating(cell: Cell, column: Column | None) -> list[Run]:
    """Return the runs of a cell that began with a column's preset."""
    if column is None or column.preset is None:
        return []
    return [run for run in cell.runs if run.record.settings.get("preset") == column.preset]


def _arm(targets: Targets, column: Column, run: Run, compose: Compose) -> tuple[str | None, Settings]:
    """Return the published arm that a run is of, with its settings; None where it is of none."""
    own = defining(run)
    for arm, settings in targets.arms.items():
        if any(value(own, key) != typed for key, typed in targets.typed(arm)):
            continue  # composing takes a quarter of a second
        composed = made_from(compose((f"experiment={column.preset}", *settings)), {}, {})
        if all(value(own, key) == value(composed, key) for key in targets.told_apart_by):
            return arm, composed
    return None, {}


def _measured(target: Target, runs: Sequence[Run], settings: Settings, which: str) -> Target:
    """Return a number with its runs' scores, the differences, and what forbids a verdict."""
    targets, column = target.targets, target.targets.columns[target.column]
    known = [score for score in _scores(runs, which, column.metric).values() if score is not None]
    target = replace(target, ours=sum(known) / len(known) if known else math.nan, seeds=len(known))
    if target.published is not None and known:
        differences = [score - target.published for score in known]
        theirs = targets.variance(target.arm, target.column)
        to_mean = published_interval(differences, theirs, targets.runs)
        target = replace(target, to_number=seed_interval(differences), to_mean=to_mean)
    changed = dict.fromkeys(each for run in runs for each in changes(run, settings, targets, target.arm, column, which))
    return replace(target, against=tuple(_against(target, runs, which, list(changed))))


def _scores(runs: Sequence[Run], which: str, metric: str) -> dict[int, float | None]:
    """Return the score of each seed in the unit that papers print; None where a run has none of that metric."""
    known = METRICS.get(metric)
    scale = known.scale if known else 100.0
    found: dict[int, float | None] = {}
    for run in runs:
        evaluated = run.record.evaluated(which)
        scores = evaluated["scores"] if evaluated else {}
        score = scores.get(metric)
        if metric in scores and score is None and known:
            score = known.undefined
        found[run.record.seed] = None if score is None else score * scale
    return found


def _against(target: Target, runs: Sequence[Run], which: str, changed: Sequence[str]) -> Iterator[str]:
    """Yield what forbids a verdict on a number."""
    targets, metric = target.targets, target.targets.columns[target.column].metric
    if target.published is None:
        yield f"no number was found{targets.missing and f': {targets.missing}'}"
    all_seeds = len({run.record.seed for run in runs})
    if target.seeds < all_seeds:
        yield f"another metric: no {metric} among the scores"
    elif target.seeds < LEAST_SEEDS:
        yield f"too few seeds, {target.seeds} of at least {LEAST_SEEDS}"
    if changed:
        yield f"changed: {', '.join(changed)}"
    known = METRICS.get(metric) if target.seeds == all_seeds else None
    trained = [run for run in runs if not (known and has_collapsed(run, which, known))]
    if len(trained) < len(runs) < ENOUGH_SEEDS:
        yield f"{len(runs) - len(trained)} of {len(runs)} seeds collapsed"
    elif any(run.record.degenerate for run in trained):
        yield "a run is degenerate"
