"""The scores of one run as its card has them: an interval over examples, and the other seeds of its arm; no torch."""

import math
from dataclasses import dataclass

import numpy as np

from molex_cli.compare.loading import Run, load
from molex_cli.compare.table import Cell
from molex_cli.metrics.base import METRICS, Metric, scored_class
from molex_cli.records.made_from import differences, of_record
from molex_cli.statistics.intervals import Interval, example_interval, seed_interval

UNKNOWN = Interval(math.nan, -math.inf, math.inf)


@dataclass(frozen=True)
class Scored:
    """A score of one run, in the metric's own unit."""

    metric: Metric
    name: str
    """With the class that it scores, where it scores one."""
    score: float | None
    examples: Interval
    """For new examples of this one run; infinite where nothing is known of single examples."""
    constant: float | None
    """The best that one answer to every row reaches."""
    arm: Cell
    """This run and other seeds of its arm."""

    @property
    def seeds(self) -> Interval:
        """Return the mean over the seeds with Student's interval."""
        return seed_interval(list(self.arm.by_seed.values()))


def scored(run: Run, which: str) -> list[Scored]:
    """Return every computed score of an evaluation, that which chooses the best first."""
    found = run.record.evaluated(which)
    described, runs = run.record.evaluation.get("metrics", {}), [run, *_other_seeds(run, which)]
    known = [name for name in (found["scores"] if found else ()) if name in METRICS or name in described]
    return [_scored(run, runs, which, run.metric(name)) for name in known]


def _scored(run: Run, runs: list[Run], which: str, metric: Metric) -> Scored:
    positive, score = run.record.evaluation.get("positive"), run.score(which, metric.name)
    constant = run.record.scores.get("constant", {}).get(metric.name)
    name = scored_class(metric.name, positive)
    return Scored(
        metric, name, score, _over_examples(run, which, metric), constant, Cell(runs, metric, positive, which)
    )


def _over_examples(run: Run, which: str, metric: Metric) -> Interval:
    """Return a score's interval over examples; unknown where it is no mean over the predictions that are kept."""
    found, score = run.values(which, metric.name), run.score(which, metric.name)
    if found is None or score is None or not np.isclose(found[1].mean(), score, atol=1e-6):
        return UNKNOWN
    return example_interval(found[1])


def _other_seeds(run: Run, which: str) -> list[Run]:
    """Return the finished runs beside this one that differ from it in nothing but the seed."""
    record = run.record
    same = (each for each in load([run.folder.parent], which).runs if each.record.variant == record.variant)
    return [
        each
        for each in same
        if each.record.seed != record.seed and not differences(of_record(each.record), of_record(record))
    ]
