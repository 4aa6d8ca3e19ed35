"""Shapes and scores to experts per layer: pure arithmetic on integers.

The named shapes, one file each in `allocations/`, are bands at a mean of five experts a layer, most of them MoLA's
(arXiv 2402.08562, section 5.1). A shape is stretched over any number of layers: layer l of L takes the average of the
bands over [l/L, (l+1)/L), scaled to the wanted total, and is rounded so that the total is exact.

Rules, in the same folder, read scores of the layers from weights or data. They are computed once, before a run begins
(`molex_cli/analysis/allocating.py`), and what they give stands in `layers` and `scores` from then on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from molex_cli.errors import ConfigError, nearest
from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import RULES, SHAPES, Budget, Needs, Shape
from molex_cli.methods.allocations.scores import checked_scores, counts_of_scores

MEAN = 5


@dataclass(kw_only=True)
class Allocation:
    """How many experts each layer gets: one of `shape`, `rule`, `bands` or `layers`; none means a rectangle."""

    shape: str | None = field(default=None, metadata={"choices": SHAPES})
    """A named shape, with `mean` or `total`."""
    rule: str | None = None
    """A rule that reads from weights or data which layers deserve experts, or a shape by its name."""
    rows: int = 256
    """Training rows that a rule reads, if it reads any; all where there are fewer."""
    from_run: str | None = None
    """Folder of the finished run that rule=knockout measures."""
    scores: list[float] | None = None
    """What the rule gave each layer, low to high; set when it is computed, before the run begins."""
    seed: int = 0
    """Draws shape=random from all allocations within min and max, each equally likely; draws the rows that a rule
    reads, and the head of its model."""
    mean: float | None = None
    """Average experts a layer (5 unless set); the total is the nearest integer to mean x layers."""
    total: int | None = None
    """Experts over all layers, instead of `mean`."""
    min: int = 1
    """Fewest experts of a layer; 0 lets shares that are small round to none."""
    max: int | None = None
    """Most experts of any layer."""
    bands: list[int] | None = None
    """One count for each band of layers, low to high, stretched over the layers: [2, 4, 6, 8]; 0 for none, whatever
    `min`, as in shape=top."""
    layers: list[int] | None = None
    """The count of every layer, low to high; 0 leaves a layer as it is."""

    @property
    def is_set(self) -> bool:
        """Return whether anything says how much there is to spread, or how."""
        ways = (self.shape, self.rule, self.mean, self.total, self.bands, self.layers)
        return any(each is not None for each in ways)

    @property
    def awaits_rule(self) -> bool:
        """Return whether a rule is set whose counts are not computed yet."""
        return self.rule in RULES and self.layers is None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings for any number of layers."""
        # Computed by a rule, layers stand beside it.
        names = ("shape", "rule", "bands", *(["layers"] if self.rule is None else []))
        chosen = [name for name in names if getattr(self, name) is not None]
        if len(chosen) > 1:
            yield f" must set one of shape, rule, bands, layers, got {' and '.join(chosen)}; set the others to null"
        if self.mean is not None and self.total is not None:
            yield f" must set mean or total, got mean={self.mean} and total={self.total}; set one to null"
        for name in ("mean", "total"):
            if getattr(self, name) is not None and self.rule is None and (self.bands or self.layers):
                yield f".{name} is not read when bands or layers are given, got {getattr(self, name)}; set it to null"
        yield from self._shape_problems()
        yield from self._rule_problems()
        if self.min < 0:
            yield f".min must be at least 0, got {self.min}"
        if self.max is not None and self.max < max(self.min, 1):
            yield f".max must be at least {f'min={self.min}' if self.min > 1 else 1}, got {self.max}"
        for name in ("bands", "layers"):
            counts = getattr(self, name)
            if counts is not None and (not counts or min(counts) < 0):
                yield f".{name} must be counts of at least 0, got {list(counts)}"
            elif counts is not None and not any(counts):
                yield f".{name} must give some layer an expert, got {list(counts)}; method=head trains the head alone"

    def _shape_problems(self) -> Iterator[str]:
        if self.shape is not None and self.shape not in SHAPES:
            rule = f"one of {', '.join(SHAPES)} or null"
            yield f".shape must be {rule}, got {self.shape!r}; {nearest(self.shape, SHAPES)}"
        readers = [name for name, shape in SHAPES.items() if shape.reads_seed]
        rules = [name for name, rule in RULES.items() if rule.reads_rows]
        is_read = self.shape in readers or self.rule in (*readers, *rules) or (self.rule and self.layers)
        if self.seed and not is_read:
            yield (
                f".seed is read by shape={' or '.join(readers)} and by rules that read rows "
                f"({', '.join(sorted(rules))}), got {self.seed}; set it to 0"
            )

    def _rule_problems(self) -> Iterator[str]:
        if self.rows < 1:
            yield f".rows must be at least 1, got {self.rows}"
        if self.scores is not None and (self.rule is None or self.layers is None):
            yield f".scores must be left to a rule, got {list(self.scores)} without its counts; set it to null"
        if self.layers is not None:  # a rule that was computed need not be known any more
            return
        known, rule = sorted({*RULES, *SHAPES}), RULES.get(self.rule or "")
        if self.rule is not None and self.rule not in known:
            yield f".rule must be one of {', '.join(known)} or null, got {self.rule!r}; {nearest(self.rule, known)}"
        if self.from_run is None and rule and rule.needs is Needs.run:
            yield f".from_run must be the folder of a finished run for rule={self.rule}, got none"
        if self.from_run is not None and not (rule and rule.needs is Needs.run):
            readers = " or ".join(name for name, each in RULES.items() if each.needs is Needs.run)
            yield f".from_run is read by rule={readers} alone, got {self.from_run}; set it to null"

    def new_problems(self) -> Iterator[str]:
        """Yield what nobody types: what a rule is yet to compute."""
        for name in ("layers", "scores"):
            if self.rule is not None and getattr(self, name) is not None:
                value = list(getattr(self, name))
                yield f".{name} must be left to rule={self.rule}, which computes it, got {value}; set one to null"


def allocation_of(method: object) -> Allocation | None:
    """Return how a method spreads over the layers what it has; None for one that spreads nothing."""
    found = getattr(method, "allocation", None)
    return found if isinstance(found, Allocation) else None


def experts_per_layer(allocation: Allocation, num_layers: int, key: str = "method.allocation") -> tuple[int, ...]:
    """Return the number of experts of each layer; raise ConfigError where no such vector exists."""
    if allocation.layers is not None:
        return _explicit(allocation, num_layers, key)
    if allocation.bands is not None:
        mean = Fraction(sum(allocation.bands), len(allocation.bands))
        return Shape(Bands(tuple(allocation.bands))).spread(_budget(allocation, num_layers, mean, key))
    shape = allocation.rule or allocation.shape or "rectangle"
    if shape in RULES:
        raise ConfigError(f"{key}.rule={shape} must be computed before its counts are asked for")
    return SHAPES[shape].spread(_budget(allocation, num_layers, _mean(allocation), key))


def rule_problems(allocation: Allocation, num_layers: int, key: str = "method.allocation") -> Iterator[str]:
    """Yield why no scores at all can be spent on so many layers, before a rule computes any.

    What a rule with a rounding of its own makes of scores is known when it has them.
    """
    if RULES[allocation.rule or ""].counts is not counts_of_scores:
        return
    try:
        counts_by_rule(allocation, [1.0] * num_layers, key)
    except ConfigError as error:
        yield from error.problems


def counts_by_rule(allocation: Allocation, scores: Sequence[float], key: str = "method.allocation") -> tuple[int, ...]:
    """Return the count of each layer that the rule makes of its scores; raise ConfigError where there are none."""
    checked = checked_scores(scores, f"{key}.rule={allocation.rule}", len(scores))
    budget = _budget(allocation, len(scores), _mean(allocation), key)
    return RULES[allocation.rule or ""].counts(checked, budget)


def _mean(allocation: Allocation) -> Fraction:
    return Fraction(str(MEAN if allocation.mean is None else allocation.mean))


def _budget(allocation: Allocation, num_layers: int, mean: Fraction, key: str) -> Budget:
    """Return what an allocation spends on so many layers."""
    total = allocation.total if allocation.total is not None else int(mean * num_layers + Fraction(1, 2))
    high = allocation.max if allocation.max is not None else max(total, allocation.min, 1)
    return Budget(total=total, num_layers=num_layers, low=allocation.min, high=high, seed=allocation.seed, key=key)


def _explicit(allocation: Allocation, num_layers: int, key: str) -> tuple[int, ...]:
    counts = tuple(allocation.layers or ())
    if len(counts) != num_layers:
        way_out = f"or give {key}.bands, which stretch over any number of layers"
        raise ConfigError(
            f"{key}.layers must give one count for each of the {num_layers} layers, got {len(counts)}; {way_out}"
        )
    high = allocation.max if allocation.max is not None else max(counts)
    if any(count and not allocation.min <= count <= high for count in counts):
        raise ConfigError(f"{key}.layers must be 0 or lie between {allocation.min} and {high}, got {list(counts)}")
    return counts
