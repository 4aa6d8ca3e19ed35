"""The differences of a report as people read them: each with its interval, its verdict and what else is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from molex_cli.compare.differences import Difference
from molex_cli.compare.judging import ALPHA
from molex_cli.compare.table import Cell, Comparison, metric_name
from molex_cli.statistics.intervals import LEAST_SEEDS, Interval
from molex_cli.statistics.paired import smallest_p

DIFFERENT, NOT_DIFFERENT = "significant", "not significant"
"""What verdicts of tests begin with, and the verdict where nothing was found."""


@dataclass(frozen=True)
class Effect:
    """By how much one arm differs from another: `one` less `other`, in the unit in which scores are shown."""

    column: str
    one: str
    other: str
    estimate: float
    """NaN where the arms have nothing in common."""
    low: float
    high: float
    """Ends of the 95 % interval; infinite where they are unknown."""
    p: float
    """Adjusted for its family; NaN where there is none."""
    seeds: int
    """How many both arms have."""
    verdict: str
    """Significant, supported, undecided and the like, with what it rests on."""
    detail: str = ""
    """What else is known: what the interval is over, other tests, power."""
    metric: str = ""
    """Name and unit of what the column shows."""
    higher_is_better: bool = True
    detectable: float = math.inf
    """The difference that so many seeds find with 80 % power; infinite where that is unknown."""


def effects(table: Comparison) -> list[Effect]:
    """Return the differences of a table: of every arm from the best of its column, or from the one named."""
    return [
        _effect(table, row, col, cell, cell.difference)
        for col in table.cols
        for row, cell in table.column(col).items()
        if cell.difference
    ]


def _effect(table: Comparison, row: str, col: str, cell: Cell, found: Difference) -> Effect:
    times, interval = cell.metric.scale, found.interval
    return Effect(
        column=col,
        one=table.name(row),
        other=table.name(cell.compared_with),
        estimate=interval.estimate * times,
        low=interval.low * times,
        high=interval.high * times,
        p=found.adjusted,
        seeds=len(found.seeds),
        verdict=_verdict(found),
        detail=_detail(table, found, times) if found.seeds else "",
        metric=metric_name(table, col),
        higher_is_better=cell.metric.higher_is_better,
        detectable=found.detectable * times,
    )


def _verdict(found: Difference) -> str:
    if not found.seeds:
        return "no seed in common"
    if math.isnan(found.adjusted):
        return "no p of so few seeds"
    if found.undecided:
        return found.undecided
    if not found.is_significant(ALPHA):
        return NOT_DIFFERENT
    return f"{DIFFERENT} when it trains" if found.caveat else DIFFERENT


def _detail(table: Comparison, found: Difference, times: float) -> str:
    more = [*_tests(found), *_power(table, found, times), *filter(None, [found.caveat])]
    return ", ".join([f"over {found.over}", *more])


def bounds(interval: Interval, times: float) -> str:
    """Return an interval's bounds, in the unit in which its score is shown."""
    return ends(interval.low * times, interval.high * times)


def ends(low: float, high: float) -> str:
    """Return the ends of an interval."""
    return f"[{low:+.2f}, {high:+.2f}]" if math.isfinite(low) and math.isfinite(high) else "unknown"


def _tests(found: Difference) -> list[str]:
    """Return the p-values besides the adjusted one, and whether so few seeds can reach significance."""
    count = len(found.seeds)
    if count < LEAST_SEEDS:
        return [] if found.mcnemar is None else [f"McNemar {found.mcnemar:.3g}, which ignores that other seeds differ"]
    least = smallest_p(count)
    cannot = f" (of {seeds(count)} at least {least:.3g})" if least >= ALPHA else ""
    return [f"permutation p {found.permutation:.3g}{cannot}"]


def _power(table: Comparison, found: Difference, times: float) -> list[str]:
    """Return what so many seeds would find, and how many would find the difference that was asked for."""
    detectable = [f"80 % power at {found.detectable * times:.2f}"] if math.isfinite(found.detectable) else []
    return [*detectable, *detection(table, found, times)]


def detection(table: Comparison, found: Difference, times: float) -> list[str]:
    """Return how many seeds would find the difference that was asked for, if one was."""
    if table.detect is None:
        return []
    if not math.isfinite(found.detectable):
        return [f"how many seeds find {table.detect:.2f} cannot be estimated from {seeds(len(found.seeds))} like these"]
    needed = found.needed(table.detect / times)
    if needed is None:
        return [f"more seeds alone would not find {table.detect:.2f}"]
    return [f"{table.detect:.2f} needs about {seeds(needed)}"]


def seeds(count: int) -> str:
    """Return a number of seeds in words."""
    return f"{count} seed{'s' if count != 1 else ''}"


HEAD = ("arm", "minus", "column", "difference", "95 %", "p, adjusted", "n", "verdict")
"""What `in_words` tells of an effect."""


def in_words(effect: Effect) -> list[str]:
    """Return an effect as the cells of a table; what is not known is a dash."""
    return [
        effect.one,
        effect.other,
        f"{effect.column} {effect.metric}".strip(),
        "–" if math.isnan(effect.estimate) else f"{effect.estimate:+.2f}",
        "–" if math.isnan(effect.estimate) else ends(effect.low, effect.high),
        "–" if math.isnan(effect.p) else f"{effect.p:.3g}",
        str(effect.seeds),
        effect.verdict,
    ]


def sentence(effect: Effect) -> str:
    """Return an effect as one line."""
    one, other, _, difference, interval, p, count, verdict = in_words(effect)
    told = f"{effect.column}: {one} - {other} = {difference}, 95 % {interval}, p {p}, n = {count}, {verdict}"
    return ", ".join(filter(None, [told, effect.detail]))


def as_rows(found: Sequence[Effect]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table of effects, with their details."""
    return [*HEAD, "detail"], [[*in_words(each), each.detail] for each in found]
