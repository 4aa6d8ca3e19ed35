"""Published numbers as a table of a report: one for each published table, all of it text."""

import math
from collections.abc import Mapping

from molex_cli.compare.effects import ends
from molex_cli.compare.judging import ALPHA
from molex_cli.compare.layout import Section
from molex_cli.compare.table import Comparison
from molex_cli.compare.targets import Found, Target
from molex_cli.compare.targets.definition import Targets
from molex_cli.statistics.intervals import Interval

WITHOUT = ("table", "why")
HEAD = ("arm", "in", "published as", "published", "ours", "n", "difference", "95 %", "95 %, both vary", "verdict")


def sections(found: Found, asked: Mapping[str, Targets], table: Comparison, *, is_named: bool) -> list[Section]:
    """Return a section for each published table that runs repeat numbers of, and one on what has none beside it.

    Of tables that were asked for by name, or where no number is repeated at all, it says why.
    """
    made = []
    for targets in asked.values():
        if group := [each for each in found.targets if each.targets is targets]:
            title = f"published: {targets.title}"
            made.append(Section(title, HEAD, [_row(each, table) for each in group], _note(targets, table)))
    without = _without(found, asked, table, is_named=is_named)
    return [*made, Section("published numbers without runs", WITHOUT, without)] if without else made


def _without(found: Found, asked: Mapping[str, Targets], table: Comparison, *, is_named: bool) -> list[tuple[str, str]]:
    """Return which published tables, or arms of ours, have no number beside them, and why."""
    beside = {(each.row, each.col) for each in found.targets}
    told = [
        (_short(targets), f"no arm of it is like {table.name(row)} in {col}")
        for targets, row, col in found.without_arm
        if is_named or (row, col) not in beside
    ]
    if not is_named and (found.targets or told):
        return told
    seen = [each.targets for each in found.targets] + [targets for targets, _, _ in found.without_arm]
    return told + [(_short(each), _why_none(each)) for each in asked.values() if each not in seen]


def _short(targets: Targets) -> str:
    return f"{targets.paper}, {targets.table}"


def _why_none(targets: Targets) -> str:
    presets = [column.preset for column in targets.columns.values() if column.preset]
    if targets.cannot or not presets:
        return targets.cannot or "no column of it names a preset"
    return f"no run here began with a preset of it, such as experiment={presets[0]}"


def _row(target: Target, table: Comparison) -> list[str]:
    published = "–" if target.published is None else f"{target.published:.2f}"
    difference = target.to_number.estimate
    return [
        table.name(target.row),
        target.col,
        f"{target.arm}, {target.column}",
        published,
        "–" if math.isnan(target.ours) else f"{target.ours:.2f}",
        str(target.seeds),
        "–" if math.isnan(difference) else f"{difference:+.2f}",
        _bounds(target.to_number),
        _bounds(target.to_mean),
        target.verdict,
    ]


def _bounds(interval: Interval) -> str:
    return ends(interval.low, interval.high) if math.isfinite(interval.low) else "–"


def _note(targets: Targets, table: Comparison) -> str:
    which = targets.which or table.which
    theirs = "one run" if targets.runs == 1 else f"the mean of {targets.runs} runs"
    vary = "varies over seeds as the paper says" if targets.spread else "is taken to vary over seeds as ours do"
    parts = [
        f"the paper reports {targets.selection}; ours is the {which} evaluation",
        f"reproduced: the interval of our mean lies within ±{targets.margin:g} of the number",
        f"above, below: the settings differ (p < {ALPHA:g}, {table.adjust}), where a number is {theirs} and {vary}",
        targets.note,
    ]
    return " ".join(f"{each[0].upper()}{each[1:]}." for each in parts if each)
