"""What all metrics share: their properties, the list of them, and scoring by name."""

import importlib.metadata
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from molex_cli.errors import ConfigError, nearest, require_own_name
from molex_cli.runtime.extras import install

Score = Callable[..., float | Sequence[float]]
S = TypeVar("S", bound=Score)


class ByExample(Enum):
    """How a score is split into one value for each example, so that two models are compared example by example."""

    no = "no"
    """It is not: models are compared over seeds only."""
    right_or_wrong = "right or wrong"
    """The score is the share of predictions that equal their reference."""
    mean = "mean"
    """The score is the mean of the scores of single examples."""
    jackknife = "jackknife"
    """The score is no mean; a value is what the score changes by without the example."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named score: its function, the tasks it is for, the direction that is better, its range."""

    name: str
    function: Score
    """Takes predictions and references, returns the score, NaN where it is undefined; or a score for each example."""
    kinds: tuple[str, ...]
    """The kinds of task that it scores."""
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    """A score of at most 1 is shown in percent."""
    by_example: ByExample = ByExample.jackknife
    of_one_class: bool = False
    """It scores the positive one of two classes, whose index its function takes as `positive`."""
    implementation: Callable[[], str] | None = None
    """Returns what computes the score, with versions, for the record; raises ConfigError where that is missing."""
    when_undefined: float | None = None
    """What a prediction counts as for which the formula has no value, by convention: a constant says nothing.

    None is 0, and `high` where low is better.
    """
    not_computed: str = ""
    """Why it is not computed, and how to get it; such a metric can be named, but not come first."""
    source: str = ""
    """Where it is from if it is none of molex's own: a file, or the library `evaluate`."""
    digest: str = ""
    """Tells one text of such a metric from another; empty until it is loaded."""

    @property
    def scale(self) -> float:
        """What a score is multiplied with where people read it: shares are shown in percent."""
        return 100.0 if self.high == 1.0 else 1.0

    def score(self, predictions: Sequence[Any], references: Sequence[Any], positive: int = 1) -> float:
        """Return the score; `positive` is the index of the positive class, where it scores one."""
        found = self.found(predictions, references, positive)
        return statistics.fmean(found) if isinstance(found, Sequence) else found

    def found(
        self, predictions: Sequence[Any], references: Sequence[Any], positive: int = 1
    ) -> float | Sequence[float]:
        """Return the score, or that of each example if the function gives it."""
        if self.of_one_class:
            return self.function(predictions, references, positive=positive)
        return self.function(predictions, references)

    @property
    def undefined(self) -> float:
        """What an undefined score counts as; infinite where nothing says it: low is better and may be of any size."""
        if self.when_undefined is not None:
            return self.when_undefined
        if self.higher_is_better:
            return 0.0 if math.isfinite(self.low) else -math.inf
        return self.high

    def better(self, new: float, old: float | None) -> bool:
        """Return whether `new` beats `old`; a score that is undefined beats nothing."""
        if math.isnan(new):
            return False
        return old is None or math.isnan(old) or (new > old if self.higher_is_better else new < old)

    def as_data(self) -> dict[str, Any]:
        """Return what a record keeps of a metric that is none of molex's own, so that it is compared without it."""
        return {
            "source": self.source,
            "digest": self.digest,
            "higher_is_better": self.higher_is_better,
            "low": self.low,
            "high": self.high,
            "by_example": self.by_example.name,
            "when_undefined": self.when_undefined,
        }

    @classmethod
    def from_data(cls, name: str, about: Mapping[str, Any]) -> "Metric":
        """Return the metric that a record describes; it computes nothing."""
        low, high = about["low"], about["high"]
        return cls(
            name=name,
            function=_unknown,
            kinds=(),
            higher_is_better=about["higher_is_better"],
            low=-math.inf if low is None else low,
            high=math.inf if high is None else high,
            by_example=ByExample[about["by_example"]],
            when_undefined=about["when_undefined"],
            source=about["source"],
            digest=about["digest"],
        )


def _unknown(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    return math.nan


METRICS: dict[str, Metric] = {}


def register(added: Metric) -> None:
    """Make a metric choosable in task.metrics."""
    require_own_name("a metric", added.name, METRICS)
    METRICS[added.name] = added


def metric(*kinds: str, **properties: Any) -> Callable[[S], S]:
    """Register a function as the metric of its name, for kinds of task and with other properties of `Metric`."""

    def registered(function: S) -> S:
        register(Metric(name=function.__name__, function=function, kinds=kinds, **properties))
        return function

    return registered


def metric_named(name: str) -> Metric:
    """Return a metric; raise ConfigError where there is none of that name."""
    if name not in METRICS:
        raise ConfigError(f"a metric must be one that molex knows, got {name}; {nearest(name, METRICS)}")
    return METRICS[name]


def recorded(name: str, about: Mapping[str, Mapping[str, Any]]) -> Metric:
    """Return a metric as a record describes it, one of molex's own by its name."""
    return Metric.from_data(name, about[name]) if name in about else metric_named(name)


def compute_scores(
    names: Sequence[str], predictions: Sequence[Any], references: Sequence[Any], positive: int = 1
) -> dict[str, float]:
    """Return each named score of the predictions; those that are not computed are left out."""
    computed = [each for each in map(metric_named, names) if not each.not_computed]
    return {each.name: each.score(predictions, references, positive) for each in computed}


def scored_class(name: str, positive: str | None) -> str:
    """Return a metric's name, with the positive class where it scores one: f1 of equivalent."""
    known = METRICS.get(name)
    return f"{name} of {positive}" if known and known.of_one_class and positive is not None else name


def implementations(names: Sequence[str]) -> dict[str, str]:
    """Return what computes each of the named scores, where more than its formula must be known."""
    known = {name: metric_named(name).implementation for name in names}
    return {name: described() for name, described in known.items() if described is not None}


def not_computed(names: Sequence[str]) -> dict[str, str]:
    """Return why scores among the named are not computed, and how to get them."""
    return {name: reason for name in names if (reason := metric_named(name).not_computed)}


def package_version(package: str) -> str:
    """Return a package's name and version; raise ConfigError with the way to get it where it is missing."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(f"task.metrics must have {package} to compute them, got none; {install('nlg')}") from None
