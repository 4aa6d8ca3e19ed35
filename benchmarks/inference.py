"""How often comparisons err: simulated runs of known truth through `molex compare`'s own judgement.

    python benchmarks/inference.py [--sets 2000] [--only WORDS]

prints the tables of docs/statistics.md. Outcomes are binary: an example is hard or easy for all arms, arms differ in
what they find hard, and each seed of an arm is better or worse by a normal amount.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import races
import tuning_bias
from numpy.typing import NDArray
from simulated import MAJORITY, Simulated, World

from molex_cli.compare.judging import ALPHA, judge
from molex_cli.compare.loading import Run
from molex_cli.compare.table import Cell, Comparison
from molex_cli.metrics.base import METRICS
from molex_cli.statistics.sequential import Race

UNEQUAL = (0.3, 1.0, 2.0)  # how much the seeds of arms vary, in turn


def judged(outcomes: NDArray[np.float64], constant: float, against: str | None = None) -> dict[str, Cell]:
    """Return the cells of a table of these outcomes, judged as `molex compare` does."""
    cells = {}
    for arm, by_seed in enumerate(outcomes):
        runs: list[Run] = [Simulated(seed, each, constant) for seed, each in enumerate(by_seed)]
        cells[f"arm{arm}", "task"] = Cell(runs, METRICS["accuracy"], None, "last")
    judge(table := Comparison(["method"], ["task"], [row for row, _ in cells], ["task"], cells, "last", against))
    return table.column("task")


def tables(world: World, sets: int, against: str | None = None, seed: int = 0) -> Iterator[dict[str, Cell]]:
    """Yield the judged columns of many sets of runs."""
    stream = np.random.default_rng(seed)
    for _ in range(sets):
        yield judged(*world.outcomes(stream), against)


def calls(column: dict[str, Cell], alpha: float = ALPHA) -> list[Cell]:
    """Return the arms that are called different."""
    return [cell for cell in column.values() if cell.difference and cell.difference.is_significant(alpha)]


def share(found: Sequence[bool]) -> float:
    """Return the share that holds, in percent."""
    return 100 * float(np.mean(found))


def family_error(world: World, sets: int) -> float:
    """Return how often any of some equal arms is called different from the best."""
    return share([bool(calls(column)) for column in tables(world, sets)])


def coverage(world: World, sets: int) -> float:
    """Return how often the 95 % interval of a pair holds the truth."""
    covered = []
    for column in tables(world, sets, "arm1"):
        interval = column["arm0"].difference.interval  # type: ignore[union-attr]
        covered.append(interval.low <= world.gain <= interval.high)
    return share(covered)


def tail(world: World, sets: int, alpha: float = 0.001) -> float:
    """Return how often the p of a pair of equal arms is below alpha."""
    return share([column["arm0"].difference.interval.p < alpha for column in tables(world, sets, "arm1")])  # type: ignore[union-attr]


def called(world: World, sets: int, signs: Sequence[int]) -> tuple[float, float]:
    """Return how often the first arm is called different with one of the signs, with and without a collapse."""
    found: dict[bool, list[bool]] = {True: [], False: []}
    for column in tables(world, sets, "arm1"):
        cell = column["arm0"]
        difference = cell.difference
        assert difference is not None
        sign = 1 if difference.interval.estimate > 0 else -1
        found[bool(cell.collapsed)].append(difference.is_significant(ALPHA) and sign in signs)
    return share(found[True] or [False]), share(found[False] or [False])


def report(title: str, heads: Sequence[str], lines: Iterable[tuple[str, Sequence[float]]], digits: int = 1) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for name, values in lines:
        print(f"| {name} | {' | '.join(f'{value:.{digits}f}' for value in values)} |", flush=True)


def family(sets: int) -> None:
    """Family-wise error."""
    arms = (3, 6, 12)
    lines = []
    for seeds in (3, 5, 8):
        for examples in (277, 872):
            for deviation in (0.0, 0.01, 0.03):
                worlds = [World(count, seeds, examples, deviation) for count in arms]
                name = f"{seeds} seeds, {examples} examples, sd {100 * deviation:.0f}"
                lines.append((name, [family_error(world, sets) for world in worlds]))
    report("Equal arms of which any is called different, %", [f"{count} arms" for count in arms], lines)


def unequal(sets: int) -> None:
    """Family-wise error of arms whose seeds vary by 0.3, 1 and 2 times as much."""
    arms, lines = (3, 6, 12), []
    for seeds in (3, 5):
        for deviation in (0.015, 0.03):
            worlds = [World(count, seeds, 872, deviation, UNEQUAL) for count in arms]
            named = " / ".join(f"{100 * deviation * ratio:.2g}" for ratio in UNEQUAL)
            errors = [family_error(world, sets) for world in worlds]
            lines.append((f"{seeds} seeds, 872 examples, sd {named}", errors))
    report("The same, of arms whose seeds vary unequally, %", [f"{count} arms" for count in arms], lines)


def cover(sets: int) -> None:
    """Coverage of the interval of a pair, alone and in a column of six arms."""
    lines = []
    for seeds in (2, 3, 5, 8):
        for examples, deviation in ((277, 0.01), (277, 0.03), (872, 0.01), (872, 0.03)):
            pair = World(2, seeds, examples, deviation, gain=0.02)
            name = f"{seeds} seeds, {examples} examples, sd {100 * deviation:.0f}"
            lines.append((name, [coverage(pair, sets), coverage(replace(pair, arms=6), sets)]))
    report("Intervals of 95 % that hold the truth, %", ["pair alone", "in 6 arms"], lines)


def tails(sets: int) -> None:
    """How often two equal arms have a p below 0.001."""
    worlds = [World(2, seeds, 872, 0.03) for seeds in (3, 5, 8)]
    lines = [("872 examples, sd 3", [tail(world, 5 * sets) for world in worlds])]
    report("Two equal arms with p < 0.001, %", [f"{world.seeds} seeds" for world in worlds], lines)


def collapses(sets: int) -> None:
    """What is called of an arm of which every fifth seed collapses."""
    same = World(2, 3, 277, 0.01, collapse=0.2)
    lost = same.collapse * (same.accuracy - MAJORITY)
    as_good = replace(same, gain=lost / (1 - same.collapse))
    lines = []
    for seeds in (3, 5, 8, 12):
        lines.append(
            (f"{seeds} seeds, equal means: called different", called(replace(as_good, seeds=seeds), sets, (1, -1)))
        )
        lines.append(
            (
                f"{seeds} seeds, {100 * lost:.0f} points worse: called better",
                called(replace(same, seeds=seeds), sets, (1,)),
            )
        )
    report(
        "One arm collapses in 20 % of its seeds, %",
        ["of sets with a collapse", "of sets without: when it trains"],
        lines,
    )


def tuning(sets: int) -> None:
    """How much better an arm looks that tried five values than an equal one of a single value."""
    worlds = [World(1 + 5, 3, 277, deviation) for deviation in (0.01, 0.02, 0.03)]
    lines = []
    for world in worlds:
        means, errors = zip(*tuning_bias.biases(world, 5 * sets).values(), strict=True)
        lines.append((f"3 seeds, 277 examples, sd {100 * world.deviation:.0f}", [*means, max(errors)]))
    names = [*(choice.name for choice in tuning_bias.CHOICES), "standard error"]
    report("Five values against one, equal arms: the difference that is reported, points", names, lines, digits=2)


def race(sets: int) -> None:
    """How often looking after every seed errs, and how many seeds it takes."""
    plan = Race(3, 12)
    looks = range(plan.first, plan.most + 1)
    report(
        "Two arms of 3 to 12 seeds: p of a look below which they are called different",
        [f"{seeds} seeds" for seeds in looks],
        [("", [plan.critical(seeds) for seeds in looks])],
        digits=5,
    )
    equal = ((arms, deviation) for arms in (2, 6) for deviation in (None, 0.01, 0.03, 0.06))
    lines = (
        (f"{arms} arms, {_scores(deviation)}", _raced(plan, arms, deviation, 3 * sets)) for arms, deviation in equal
    )
    report("Equal arms in a race of 3 to 12 seeds, %", ["any called different", "seeds used, of 12"], lines)
    better = ((f"{arms} arms, {_scores(0.03)}", _raced(plan, arms, 0.03, sets, gain=0.05)) for arms in (2, 6))
    report("One of them 5 points better, %", ["called different from any", "seeds used, of 12"], better)


def _scores(deviation: float | None) -> str:
    return "normal scores" if deviation is None else f"872 examples, sd {100 * deviation:.0f}"


def _raced(plan: Race, arms: int, deviation: float | None, sets: int, gain: float = 0.0) -> list[float]:
    """Return how often any arms are called different in a race, and which share of the seeds it takes, in percent."""
    found = list(races.outcomes(plan, arms, deviation, sets, gain))
    used = np.mean([each.seeds for each in found]) / plan.most
    return [share([each.decided > 0 for each in found]), 100 * float(used)]


CHOICES = (family, unequal, cover, tails, collapses, tuning, race)
PARTS: dict[str, Callable[[int], None]] = {each.__name__: each for each in CHOICES}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000, help="of runs, for each number")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    options = parser.parse_args()
    for name in options.only:
        PARTS[name](options.sets)


if __name__ == "__main__":
    main()
