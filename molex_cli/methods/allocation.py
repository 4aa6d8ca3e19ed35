"""Shapes to experts per layer: pure arithmetic on integers.

The named shapes, one file each in `allocations/`, are bands at a mean of five experts a layer, most of them MoLA's
(arXiv 2402.08562, section 5.1). A shape is stretched over any number of layers: layer l of L takes the average of the
bands over [l/L, (l+1)/L), scaled to the wanted total, and is rounded so that the total is exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from molex_cli.errors import ConfigError, nearest
from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import SHAPES, Budget, Shape

MEAN = 5


@dataclass(kw_only=True)
class Allocation:
    """How many experts each layer gets: one of `shape`, `bands` or `layers`; none means a rectangle."""

    shape: str | None = field(default=None, metadata={"choices": SHAPES})
    """A named shape, with `mean` or `total`."""
    seed: int = 0
    """Which of the allocations of shape=random, all of them within min and max equally likely."""
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
        return any(each is not None for each in (self.shape, self.mean, self.total, self.bands, self.layers))

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings for any number of layers."""
        chosen = [name for name in ("shape", "bands", "layers") if getattr(self, name) is not None]
        if len(chosen) > 1:
            yield f" must set one of shape, bands, layers, got {' and '.join(chosen)}; set the others to null"
        if self.mean is not None and self.total is not None:
            yield f" must set mean or total, got mean={self.mean} and total={self.total}; set one to null"
        for name in ("mean", "total"):
            if getattr(self, name) is not None and (self.bands or self.layers):
                yield f".{name} is not read when bands or layers are given, got {getattr(self, name)}; set it to null"
        yield from self._shape_problems()
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
        if self.seed and self.shape not in readers:
            yield f".seed is read by shape={' or '.join(readers)} alone, got {self.seed}; set it to 0"


def experts_per_layer(allocation: Allocation, num_layers: int, key: str = "method.allocation") -> tuple[int, ...]:
    """Return the number of experts of each layer; raise ConfigError where no such vector exists."""
    if allocation.layers is not None:
        return _explicit(allocation, num_layers, key)
    if allocation.bands is not None:
        shape, mean = Shape(Bands(tuple(allocation.bands))), Fraction(sum(allocation.bands), len(allocation.bands))
    else:
        shape = SHAPES[allocation.shape or "rectangle"]
        mean = Fraction(str(MEAN if allocation.mean is None else allocation.mean))
    total = allocation.total if allocation.total is not None else int(mean * num_layers + Fraction(1, 2))
    high = allocation.max if allocation.max is not None else max(total, allocation.min, 1)
    budget = Budget(total=total, num_layers=num_layers, low=allocation.min, high=high, seed=allocation.seed, key=key)
    return shape.spread(budget)


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
