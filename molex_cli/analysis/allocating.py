"""From a rule to counts: computed once before a run begins, and frozen into its settings."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.config.schema import Experiment, as_data, problems
from molex_cli.errors import ConfigError
from molex_cli.methods.allocation import Allocation, allocation_of, counts_by_rule
from molex_cli.methods.allocations.base import RULES
from molex_cli.methods.allocations.scores import checked_scores
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.analysis.evidence import BaseEvidence


@dataclass(frozen=True)
class Scored:
    """What a rule found."""

    scores: list[float]
    rows: int
    """Training rows that were read."""
    available: int
    """Training rows that there are."""


def frozen(experiment: Experiment) -> Experiment:
    """Return the experiment with the counts of its allocation's rule as `layers`; as it is where none are missing.

    Raises ConfigError where the rule cannot be computed or its counts do not fit the method.
    """
    allocation = allocation_of(experiment.method)
    if allocation is None or not allocation.awaits_rule:
        return experiment
    found = _once(experiment, allocation)
    counts = list(counts_by_rule(allocation, found.scores))
    own = replace(
        allocation,
        layers=counts,
        scores=found.scores,
        rows=found.rows or allocation.rows,
        from_run=Path(allocation.from_run).resolve().name if allocation.from_run else None,
    )
    method: Any = experiment.method
    result = replace(experiment, method=replace(method, allocation=own))
    if wrong := list(problems(result)):
        raise ConfigError([f"{problem} (rule={allocation.rule} gives {counts})" for problem in wrong])
    _tell(allocation, found, counts)
    return result


def scored(evidence: "BaseEvidence", rule: str) -> Scored:
    """Return what a rule finds; raise MolexError where it cannot be computed."""
    scores = checked_scores(RULES[rule].scores(evidence), f"method.allocation.rule={rule}", evidence.num_layers)
    return Scored(scores, *evidence.rows.get(RULES[rule].needs, (0, 0)))


def _once(experiment: Experiment, allocation: Allocation) -> Scored:
    """Return what the experiment's rule finds; jobs that share all that it reads share it."""
    key = _key(experiment, allocation)
    if key not in _FOUND:
        from molex_cli.analysis.evidence import BaseEvidence
        from molex_cli.runtime import distributed

        found = scored(BaseEvidence(experiment, allocation), allocation.rule or "")
        _FOUND[key] = distributed.broadcast(found)  # processes of other machines round otherwise
    return _FOUND[key]


_FOUND: dict[str, Scored] = {}
_TOLD: set[str] = set()


def _key(experiment: Experiment, allocation: Allocation) -> str:
    """Return what decides the scores; neither the run's seed nor how it trains does."""
    settings, train = as_data(experiment), experiment.train
    update = experiment.method.low_rank()
    read = [settings[name] for name in ("model", "task", "stages", "data_dir")]
    rows = [train.max_length, train.max_rows, train.selection, train.selection_seed, train.label_smoothing]
    own = [allocation.rule, allocation.rows, allocation.seed, allocation.from_run]
    return json.dumps([read, rows, own, list(update.targets) if update else []], sort_keys=True)


def _tell(allocation: Allocation, found: Scored, counts: Sequence[int]) -> None:
    """Say once what a rule gives; of the processes of a run only the first one says it."""
    from molex_cli.runtime import distributed

    if distributed.rank() > 0:
        return
    read = ""
    if found.rows == found.available > 0:
        read = f" from all {found.rows:,} training rows"
    elif found.rows:
        read = f" from {found.rows:,} of {found.available:,} training rows"
    line = f"note: method.allocation.rule={allocation.rule} gives {' '.join(map(str, counts))}{read}"
    if line not in _TOLD:
        _TOLD.add(line)
        say(line, file=sys.stderr, flush=True)
