"""What a paper published: a file of conf/targets, or one of your own, as declared types; no torch."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec
import yaml
from msgspec import Struct, field

from molex_cli.errors import ConfigError, nearest
from molex_cli.metrics.base import METRICS
from molex_cli.records.reading import Misfit, require_shallow
from molex_cli.statistics.intervals import SeedVariance

OF_STAGES = ("performance_drop", "backward_transfer")
"""Scores of runs that learn task after task, in the unit of their metric."""


class Column(Struct, forbid_unknown_fields=True, frozen=True):
    """A column of the published table."""

    metric: str
    preset: str | None = None
    """The experiment that repeats it; null where none does."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of each split of the data that the paper names."""


class Spread(Struct, forbid_unknown_fields=True, frozen=True):
    """What the published intervals are: the mean over seeds ± z standard errors."""

    seeds: int
    z: float = 1.96


class Targets(Struct, forbid_unknown_fields=True, frozen=True):
    """A published table, and how a run is known to repeat a number of it. Scores are as printed, most in percent."""

    paper: str
    version: str
    """Where and when: arXiv id with version, or proceedings."""
    table: str
    selection: str
    """Which evaluation, of which seeds, the paper reports."""
    columns: dict[str, Column]
    arms: dict[str, list[str]]
    """The settings that each arm adds to a column's preset."""
    numbers: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """By arm and column; null where the number was not found."""
    missing: str = ""
    """Why numbers were not found."""
    cannot: str = ""
    """Why no run can repeat the table."""
    note: str = ""
    which: Literal["last", "best"] | None = None
    """The evaluation that `selection` means; null takes the one that is compared."""
    runs: int = 1
    """Runs whose mean a number is; 1 where that is not known."""
    margin: float = 1.0
    """A difference that does not matter, in the unit of the numbers."""
    told_apart_by: list[str] = field(default_factory=lambda: ["method.name"])
    """Settings whose values tell the arms apart."""
    open: dict[str, list[Any]] = field(default_factory=dict)
    """Settings that the paper leaves open, with the values that it allows; none allow any."""
    open_of: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    """The same for single arms."""
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    spread: Spread | None = None
    """What `intervals` are."""

    @property
    def title(self) -> str:
        """Return paper, table and version."""
        return f"{self.paper}, {self.table}: {self.version}"

    def number(self, arm: str, column: str) -> float | None:
        """Return a published number; the middle of its interval where the table prints that alone."""
        found = self.numbers.get(arm, {}).get(column)
        interval = self.intervals.get(arm, {}).get(column)
        return sum(interval) / 2 if found is None and interval else found

    def variance(self, arm: str, column: str) -> SeedVariance | None:
        """Return the published variance of a run over seeds; None where none was."""
        interval = self.intervals.get(arm, {}).get(column)
        if interval is None or self.spread is None:
            return None
        error = (interval[1] - interval[0]) / 2 / self.spread.z
        return SeedVariance(error**2 * self.spread.seeds, self.spread.seeds - 1)

    def typed(self, arm: str) -> Iterator[tuple[str, Any]]:
        """Yield the settings that tell the arm apart, with their values, as far as its overrides say them."""
        for override in self.arms[arm]:
            key, _, text = override.partition("=")
            if (full := "method.name" if key == "method" else key) in self.told_apart_by:
                yield full, yaml.safe_load(text)

    def is_open(self, arm: str, key: str, value: Any) -> bool:
        """Return whether the paper leaves it open that a setting has this value."""
        return any(key in each and (not each[key] or value in each[key]) for each in self._open(arm))

    def _open(self, arm: str) -> tuple[dict[str, list[Any]], ...]:
        return self.open, self.open_of.get(arm, {})


def targets_of(content: Any, name: str) -> Targets:
    """Return the content of a file as targets; raise ConfigError with what is wrong in it."""
    try:
        require_shallow(content)
        found: Targets = msgspec.convert(content, Targets)
    except (msgspec.ValidationError, Misfit) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} must be a published table as docs/papers.md shows, got: {reason}") from None
    if problems := list(_problems(found)):
        raise ConfigError([f"{name}: {problem}" for problem in problems])
    return found


def _problems(found: Targets) -> Iterator[str]:
    """Yield what is wrong with targets whose types are right."""
    if not 0 < found.margin < math.inf:
        yield f"margin must be above 0 and finite, got {found.margin}"
    if found.runs < 1:
        yield f"runs must be at least 1, got {found.runs}"
    known = [*METRICS, *OF_STAGES]
    for name, column in found.columns.items():
        if column.metric not in known:
            hint = nearest(column.metric, known)
            yield f"columns.{name}.metric must be one that molex knows, got {column.metric}; {hint}"
    for part in ("numbers", "intervals", "open_of"):
        yield from _unknown(part, getattr(found, part), found.arms)
    for part in ("numbers", "intervals"):
        for arm, row in getattr(found, part).items():
            yield from _unknown(f"{part}.{arm}", row, found.columns)
    yield from _arm_problems(found)
    if not all(map(math.isfinite, _printed(found))):
        yield "numbers and intervals must be finite, got one that is not; null leaves a number open"
    yield from _spread_problems(found)


def _printed(found: Targets) -> Iterator[float]:
    for row in found.numbers.values():
        yield from (number for number in row.values() if number is not None)
    for intervals in found.intervals.values():
        yield from (end for interval in intervals.values() for end in interval)


def _arm_problems(found: Targets) -> Iterator[str]:
    for arm, overrides in found.arms.items():
        for override in overrides:
            try:
                is_typed = "=" in override and bool(yaml.safe_load(override.replace("=", ": ", 1)))
            except yaml.YAMLError:
                is_typed = False
            if not is_typed:
                yield f"arms.{arm} must have settings as they are typed, got {override}; for example method.rank=64"


def _unknown(where: str, names: Iterable[str], known: Mapping[str, Any]) -> Iterator[str]:
    for name in names:
        if name not in known:
            yield f"{where} must have the names of arms and columns, got {name}; {nearest(name, known)}"


def _spread_problems(found: Targets) -> Iterator[str]:
    if found.spread and (found.spread.seeds < 2 or not 0 < found.spread.z < math.inf):
        yield f"spread must be of two seeds at least and a z above 0, got {found.spread.seeds} and {found.spread.z}"
    if found.intervals and not found.spread:
        yield "spread must say what intervals are, got none; for example {seeds: 3, z: 1.96}"
    for arm, row in found.intervals.items():
        for column, (low, high) in row.items():
            if not low <= high:
                yield f"intervals.{arm}.{column} must begin with its lower end, got {low} and {high}"
