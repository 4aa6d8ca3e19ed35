"""Tuned settings: each arm gets the value with the best score on rows and seeds that report nothing; no torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from molex_cli.compare.loading import Run, has_diverged
from molex_cli.errors import ConfigError, nearest
from molex_cli.metrics.base import Metric
from molex_cli.records import flat

Values = tuple[Any, ...]
"""A value of each tuned setting, in order."""
DIGITS = 12  # mean scores that agree in so many are equal: the order of seeds rounds otherwise


@dataclass(frozen=True)
class Tuned:
    """What tuning chose for one arm in one column."""

    values: Mapping[str, Any]
    """The chosen value of each setting."""
    grid: Mapping[str, Sequence[Any]]
    """The values of each setting that were tried, sorted."""
    scores: Mapping[Values, float]
    """The mean selection score of each combination over the seeds; infinitely bad where a trial diverged."""
    trials: int
    """Runs that it took: combinations times seeds."""
    seeds: Sequence[int]
    edges: Sequence[str]
    """Settings whose chosen value is the lowest or highest of several numbers: a better one may lie beyond."""
    diverged: int = 0
    """Trials of which training failed."""
    unused: int = 0
    """Runs of other seeds at other values than the chosen ones."""


@dataclass(frozen=True)
class Tuning:
    """What is tuned, on which seeds; the runs of other seeds are reported."""

    settings: Sequence[str]
    seeds: Sequence[int]
    diverged: Sequence[Run] = ()
    """Runs of which training failed."""

    @property
    def failures(self) -> list[Run]:
        """Return the trials that diverged."""
        return [run for run in self.diverged if run.record.seed in self.seeds]

    def require_possible(self, runs: Sequence[Run], keys: Sequence[str]) -> None:
        """Raise ConfigError for settings or seeds that no run has, or settings that name rows or columns (`keys`)."""
        if both := [key for key in self.settings if key in keys]:
            raise ConfigError(f"--tune must name other settings than --rows and --cols, got {both[0]} in both")
        known = {key for run in runs for key in flat(run.record.settings)}
        for key in self.settings:
            if not any(name == key or name.startswith(f"{key}.") for name in known):
                raise ConfigError(f"--tune must name settings of the runs, got {key}; {nearest(key, known)}")
        seeds = sorted({run.record.seed for run in (*runs, *self.diverged)})
        for seed in self.seeds:
            if seed not in seeds:
                has = _listed(seeds)
                raise ConfigError(
                    f"--tuning-seeds must be seeds of the runs, got {seed}, which none has; they have {has}"
                )

    def reported(self, runs: Sequence[Run], which: str, name: str) -> tuple[list[Run], Tuned]:
        """Return the runs of an arm that are reported, and what its others chose; `name` is the arm's, in messages."""
        trials: dict[Values, list[Run]] = {}
        others: dict[Values, list[Run]] = {}
        for run in runs:
            of = trials if run.record.seed in self.seeds else others
            of.setdefault(self._values(run), []).append(run)
        tuned = chosen(trials, self.settings, self.seeds, which, name)
        found = others.pop(tuple(tuned.values.values()), [])
        if not found:
            at = _at(self.settings, tuple(tuned.values.values()))
            raise ConfigError(f"{name} must have runs of seeds that tuned nothing at {at}, got none; run it with some")
        return found, replace(tuned, unused=sum(map(len, others.values())))

    def _values(self, run: Run) -> Values:
        values = map(run.setting, self.settings)
        return tuple(str(value) if isinstance(value, list | dict) else value for value in values)


NOTHING = Tuning((), ())


def chosen(
    runs_by_values: Mapping[Values, Sequence[Run]],
    settings: Sequence[str],
    seeds: Sequence[int],
    which: str = "last",
    arm: str = "an arm",
) -> Tuned:
    """Return the values with the best mean selection score over the seeds; of equals the first.

    The runs of other seeds choose nothing. An undefined score counts as that of a constant prediction, a trial that
    diverged as worse than every other. Raise ConfigError where a combination lacks a seed, or a run a selection score.
    """
    if not runs_by_values:
        raise ConfigError(f"{arm} must have runs of the tuning seeds {_listed(seeds)}, got none; run it with them")
    order = sorted(runs_by_values, key=lambda values: [*map(_rank, values)])
    trials = {values: _trials(runs_by_values[values], seeds, arm, _at(settings, values)) for values in order}
    metric = _metric(trials, settings, arm)
    scores = {values: [_score(run, which, metric) for run in runs] for values, runs in trials.items()}
    best = min(order, key=lambda values: _loss(scores[values], metric))
    values = dict(zip(settings, best, strict=True))
    grid = {key: sorted({each[i] for each in order}, key=_rank) for i, key in enumerate(settings)}
    return Tuned(
        values=values,
        grid=grid,
        scores={each: math.fsum(found) / len(found) for each, found in scores.items()},
        trials=len(order) * len(seeds),
        seeds=tuple(seeds),
        edges=tuple(key for key in settings if _is_edge(values[key], grid[key])),
        diverged=sum(has_diverged(run) for runs in trials.values() for run in runs),
    )


def _trials(runs: Sequence[Run], seeds: Sequence[int], arm: str, at: str) -> list[Run]:
    """Return the run of each seed."""
    by_seed = {run.record.seed: run for run in runs if run.record.status == "finished" or has_diverged(run)}
    if missing := [seed for seed in seeds if seed not in by_seed]:
        raise ConfigError(f"{arm} must have every tuning seed at every value, got no run of {_listed(missing)} at {at}")
    return [by_seed[seed] for seed in seeds]


def _metric(trials: Mapping[Values, Sequence[Run]], settings: Sequence[str], arm: str) -> Metric:
    """Return the metric of the runs that finished."""
    finished = (run for runs in trials.values() for run in runs if not has_diverged(run))
    if (run := next(finished, None)) is None:
        raise ConfigError(f"{arm} must train at a value of {', '.join(settings)}, got trials that all diverged")
    return run.metric()


def _score(run: Run, which: str, metric: Metric) -> float:
    """Return a trial's score on the rows that choose; infinitely bad if it diverged."""
    if has_diverged(run):
        return -math.inf if metric.higher_is_better else math.inf
    evaluated = run.record.evaluated(which)
    found = evaluated.get("selection") if evaluated else None
    if found is None:
        raise ConfigError(
            f"runs that tune must have been trained with train.selection, got {run.folder} without; for example "
            "train.selection=0.1"
        )
    score = found.get(metric.name)
    return metric.undefined if score is None or math.isnan(score) else score


def _loss(scores: Sequence[float], metric: Metric) -> tuple[int, float]:
    """Return what the best combination has least of: trials that diverged, then the mean of the others, turned."""
    known = [score for score in scores if math.isfinite(score)]
    mean = math.fsum(known) / len(known) if known else 0.0
    return len(scores) - len(known), round(-mean if metric.higher_is_better else mean, DIGITS)


def _is_edge(value: Any, tried: Sequence[Any]) -> bool:
    numbers = [each for each in tried if _is_number(each)]
    return _is_number(value) and len(numbers) > 1 and value in (numbers[0], numbers[-1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rank(value: Any) -> tuple[bool, float, str]:
    """Return what sorts values: numbers by size, then the others by their text."""
    return (False, value, "") if _is_number(value) else (True, 0.0, str(value))


def _at(settings: Sequence[str], values: Values) -> str:
    return ", ".join(f"{key}={value}" for key, value in zip(settings, values, strict=True))


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))
