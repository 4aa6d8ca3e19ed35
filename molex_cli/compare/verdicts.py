"""The verdict on each column in a sentence: what is better than what, and where no difference could be shown."""

import math
from collections.abc import Iterator, Sequence

from molex_cli.compare.effects import DIFFERENT, NOT_DIFFERENT, Effect, effects
from molex_cli.compare.table import Comparison

MOST_NAMED = 3  # arms of a clause: the table has all


def verdicts(table: Comparison) -> list[str]:
    """Return a sentence for each column."""
    found = effects(table)
    return [f"{col}: {_verdict(table, col, [each for each in found if each.column == col])}." for col in table.cols]


def _verdict(table: Comparison, col: str, found: Sequence[Effect]) -> str:
    if not found:
        arms = list(table.column(col))
        lacks = f"{table.name(table.against)} has no run here" if table.against and len(arms) > 1 else ""
        return f"nothing is compared: {lacks or f'{table.name(arms[0])} is the only arm'}"
    better = [each for each in found if each.verdict.startswith(DIFFERENT)]
    alike = [each for each in found if each.verdict == NOT_DIFFERENT]
    opened = [each for each in found if each not in better and each not in alike]
    rows = {run.scored_rows for cell in table.column(col).values() for run in cell.runs} - {()}
    doubt = ["but not all arms were scored on the same rows"] if len(rows) > 1 else []
    return "; ".join([*_better(better, table.adjust), *_alike(alike), *_open(opened), *doubt])


def _better(found: Sequence[Effect], adjust: str) -> Iterator[str]:
    """Yield for each arm that is better than others by how much it is, the smallest differences first."""
    by_winner: dict[str, list[Effect]] = {}
    for each in sorted(found, key=lambda each: abs(each.estimate)):
        by_winner.setdefault(_winner(each), []).append(each)
    for winner, own in by_winner.items():
        named = [_by(each, adjust) for each in own[:MOST_NAMED]]
        more = [f"than {_others(len(own) - MOST_NAMED)} by more"] if len(own) > MOST_NAMED else []
        when = " (when it trains)" if any(each.verdict != DIFFERENT for each in own) else ""
        yield f"{winner} is better{when} {', '.join([*named, *more])}"


def _winner(effect: Effect) -> str:
    return effect.one if (effect.estimate > 0) is effect.higher_is_better else effect.other


def _by(effect: Effect, adjust: str) -> str:
    loser = effect.other if _winner(effect) == effect.one else effect.one
    low, high = sorted(map(abs, (effect.low, effect.high)))
    size = f"{abs(effect.estimate):.2f} {_unit(effect)}"
    known = f"95 % {low:.2f} to {high:.2f}, {effect.seeds} seeds, p {effect.p:.2g} after {adjust}"
    return f"than {loser} by {size} ({known})"


def _alike(found: Sequence[Effect]) -> Iterator[str]:
    """Yield a clause on the differences that could not be shown, and how large they would have had to be."""
    if found:
        worst = max(each.detectable for each in found)
        runs = min(each.seeds for each in found)
        power = f"; {runs} runs of each find one of {worst:.2f} {_unit(found[0])} with 80 % power"
        could = power if math.isfinite(worst) else ""
        yield f"no difference of {_named(found)} from {found[0].other} could be shown{could}"


def _open(found: Sequence[Effect]) -> Iterator[str]:
    """Yield for each reason why nothing is concluded the arms that it holds for."""
    for reason in dict.fromkeys(each.verdict for each in found):
        own = [each for each in found if each.verdict == reason]
        yield f"nothing is concluded of {_named(own)} against {own[0].other} ({reason})"


def _named(found: Sequence[Effect]) -> str:
    names = [each.one for each in found]
    more = [_others(len(names) - MOST_NAMED)] if len(names) > MOST_NAMED else []
    *first, last = [*names[:MOST_NAMED], *more]
    return f"{', '.join(first)} and {last}" if first else last


def _others(number: int) -> str:
    return f"{number} other{'' if number == 1 else 's'}"


def _unit(effect: Effect) -> str:
    return "points" if effect.metric.endswith("%") else effect.metric
