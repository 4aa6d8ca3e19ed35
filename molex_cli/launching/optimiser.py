"""What a sweeper that optimises is told: which end of the metric is better, how many trials its study still lacks."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig

from molex_cli.config.command_line import CommandLine
from molex_cli.config.parsing import key_of, parsed
from molex_cli.config.sweeps import values_of
from molex_cli.errors import ConfigError
from molex_cli.metrics.base import Metric
from molex_cli.runtime.streams import say

DIRECTION, TRIALS, STORAGE = "hydra.sweeper.direction", "hydra.sweeper.n_trials", "hydra.sweeper.storage"


def with_search(line: CommandLine, metric: Metric, sweeper: DictConfig) -> CommandLine | None:
    """Return the line with what a search for the better values of a metric needs; raise ConfigError for a strange one.

    A study that is stored goes on: its trials count, and None says that it has them all.
    """
    direction = _direction(line.overrides, metric, sweeper)
    _require_counts(sweeper)
    left = sweeper.n_trials - _finished_trials(sweeper) if sweeper.get("storage") else sweeper.n_trials
    if left < 1:
        say(f"the study {sweeper.study_name} has {sweeper.n_trials - left} trials; raise {TRIALS} for more")
        return None
    is_grid = str(sweeper.get("sampler", {}).get("_target_")).endswith("GridSampler")
    own = parsed([text for text in line.overrides if key_of(text) not in (DIRECTION, TRIALS)])[0]
    drawn = [_drawn(override, is_grid=is_grid) for override in own]
    return dataclasses.replace(line, overrides=[*drawn, f"{DIRECTION}={direction}", f"{TRIALS}={left}"])


def _direction(given: Sequence[str], metric: Metric, sweeper: DictConfig) -> str:
    """Return whether the metric is maximised or minimised, as it says itself."""
    if "direction" not in sweeper:
        raise ConfigError(
            f"hydra/sweeper must be basic or optuna, got {sweeper.get('_target_')}, which has no known direction"
        )
    better = "maximize" if metric.higher_is_better else "minimize"
    for text in given:
        if key_of(text) == DIRECTION and text.partition("=")[2] != better:
            value = text.partition("=")[2]
            raise ConfigError(f"{DIRECTION} must be {better}, what {metric.name} asks for, got {value}; leave it out")
    return better


def _require_counts(sweeper: DictConfig) -> None:
    """Raise ConfigError for numbers of which the sweeper makes a traceback."""
    for name in ("n_trials", "n_jobs"):
        if not isinstance(sweeper.get(name), int) or sweeper[name] < 1:
            raise ConfigError(f"hydra.sweeper.{name} must be at least 1, got {sweeper.get(name)}")
    if not 0 <= sweeper.get("max_failure_rate", 0) <= 1:
        raise ConfigError(f"hydra.sweeper.max_failure_rate must be from 0 to 1, got {sweeper.max_failure_rate}")


def _finished_trials(sweeper: DictConfig) -> int:
    """Return how many trials of a stored study are done."""
    if not sweeper.get("study_name"):
        raise ConfigError("hydra.sweeper.study_name must name the study in hydra.sweeper.storage, got none")
    import optuna

    try:
        known = optuna.get_all_study_summaries(storage=sweeper.storage)
        if sweeper.study_name not in [study.study_name for study in known]:
            return 0
        trials = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage).trials
    except Exception as error:  # of SQLAlchemy, and of the database's own package
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{STORAGE} must be the address of a database, such as sqlite:///study.db, got {sweeper.storage} ({reason})"
        ) from error
    return sum(trial.state is optuna.trial.TrialState.COMPLETE for trial in trials)


def _drawn(override: Override, *, is_grid: bool) -> str:
    """Return an override as Optuna draws from it: its ranges end with their last value, its grids leave that out."""
    given: Any = override.value()
    if not isinstance(given, RangeSweep) or given.shuffle:
        return override.input_line or ""
    values = values_of(override)
    text = f"range({min(values)},{max(values)},{abs(given.step)})"
    if is_grid or len(values) == 1:
        text = f"choice({','.join(map(str, values))})"
    return f"{override.get_key_element()}={text}"
