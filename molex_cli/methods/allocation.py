"""Shapes to experts per layer: pure arithmetic on integers.

The named shapes are the bands of MoLA (arXiv 2402.08562, section 5.1) at a mean of five experts
a layer. A shape is stretched over any number of layers: layer l of L takes the average of the
bands over [l/L, (l+1)/L), scaled to the wanted total, and is rounded so that the total is exact.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from itertools import accumulate

from molex_cli.errors import ConfigError


class Shape(Enum):
    """The named shapes of MoLA, from the lowest layers to the highest."""

    inverted = "inverted"
    triangle = "triangle"
    hourglass = "hourglass"
    rectangle = "rectangle"
    diamond = "diamond"
    random = "random"


BANDS: dict[Shape, tuple[int, ...]] = {
    Shape.inverted: (2, 4, 6, 8),
    Shape.triangle: (8, 6, 4, 2),
    Shape.hourglass: (8, 2, 2, 8),
    Shape.rectangle: (5, 5, 5, 5),
    Shape.diamond: (2, 8, 8, 2),
}


@dataclass(kw_only=True)
class Allocation:
    """How many experts each layer gets: one of `shape`, `bands` or `layers`; none means a rectangle."""

    shape: Shape | None = None
    """A named shape, with `mean` or `total`."""
    seed: int = 0
    """Which of the allocations of shape=random, all of them within min and max equally likely."""
    mean: float | None = None
    """Average experts a layer (5 unless set); the total is the nearest integer to mean x layers."""
    total: int | None = None
    """Experts over all layers, instead of `mean`."""
    min: int = 1
    """Fewest experts of any layer."""
    max: int | None = None
    """Most experts of any layer."""
    bands: list[int] | None = None
    """One count for each band of layers, low to high, stretched over the layers: [2, 4, 6, 8]."""
    layers: list[int] | None = None
    """The count of every layer, low to high."""

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
        if self.seed and self.shape is not Shape.random:
            yield f".seed is read by shape=random alone, got {self.seed}; set it to 0"
        if self.min < 1:
            yield f".min must be at least 1, got {self.min}"
        if self.max is not None and self.max < self.min:
            yield f".max must be at least min={self.min}, got {self.max}"
        for name in ("bands", "layers"):
            counts = getattr(self, name)
            if counts is not None and (not counts or min(counts) < 1):
                yield f".{name} must be counts of at least 1, got {list(counts)}"


def experts_per_layer(allocation: Allocation, num_layers: int, key: str = "method.allocation") -> tuple[int, ...]:
    """Return the number of experts of each layer; raise ConfigError where no such vector exists."""
    if allocation.layers is not None:
        return _explicit(allocation, num_layers, key)
    bands: tuple[int, ...]
    if allocation.shape is Shape.random:
        bands, mean = (1,), Fraction(str(5 if allocation.mean is None else allocation.mean))
    elif allocation.bands is not None:
        bands, mean = tuple(allocation.bands), Fraction(sum(allocation.bands), len(allocation.bands))
    else:
        bands = BANDS[allocation.shape or Shape.rectangle]
        mean = Fraction(str(5 if allocation.mean is None else allocation.mean))
    total = allocation.total if allocation.total is not None else int(mean * num_layers + Fraction(1, 2))
    bounds = _Bounds(allocation.min, allocation.max if allocation.max is not None else max(total, allocation.min))
    _refuse_impossible(bands, total, bounds, num_layers, key)
    if allocation.shape is Shape.random:
        return _random(total, bounds, num_layers, allocation.seed)
    weights = stretched(bands, num_layers)
    if _is_mirrored(bands):
        return _mirrored(weights, total, bounds)
    if bands > bands[::-1]:  # falling bands are the mirror image of rising ones, rounding included
        return _rounded(weights[::-1], total, bounds)[::-1]
    return _rounded(weights, total, bounds)


def stretched(bands: Sequence[int], num_layers: int) -> list[Fraction]:
    """Return the average of the bands over each layer's share of the depth, exactly."""
    num_bands = len(bands)
    averages = []
    for layer in range(num_layers):
        low, high = Fraction(layer * num_bands, num_layers), Fraction((layer + 1) * num_bands, num_layers)
        area = Fraction(0)
        for band, count in enumerate(bands):
            area += max(Fraction(0), min(high, Fraction(band + 1)) - max(low, Fraction(band))) * count
        averages.append(area / (high - low))
    return averages


@dataclass(frozen=True)
class _Bounds:
    low: int
    high: int


def _explicit(allocation: Allocation, num_layers: int, key: str) -> tuple[int, ...]:
    counts = tuple(allocation.layers or ())
    if len(counts) != num_layers:
        way_out = f"or give {key}.bands, which stretch over any number of layers"
        raise ConfigError(
            f"{key}.layers must give one count for each of the {num_layers} layers, got {len(counts)}; {way_out}"
        )
    high = allocation.max if allocation.max is not None else max(counts)
    if min(counts) < allocation.min or max(counts) > high:
        raise ConfigError(f"{key}.layers must lie between {allocation.min} and {high}, got {list(counts)}")
    return counts


def _random(total: int, bounds: _Bounds, num_layers: int, seed: int) -> tuple[int, ...]:
    """Return one of all allocations of `total` within the bounds, each equally likely."""
    ways = [[1] + [0] * total]  # ways[n][t]: to spend t on n layers
    for _ in range(num_layers):
        below = [0, *accumulate(ways[-1])]  # below[t]: to spend less than t
        ways.append([below[max(0, t - bounds.low + 1)] - below[max(0, t - bounds.high)] for t in range(total + 1)])
    stream = random.Random(f"allocation {seed}")
    counts: list[int] = []
    for left in range(num_layers - 1, -1, -1):
        rest = total - sum(counts)
        choices = range(bounds.low, min(bounds.high, rest) + 1)
        counts += stream.choices(choices, [ways[left][rest - count] for count in choices])
    return tuple(counts)


def _is_mirrored(bands: tuple[int, ...]) -> bool:
    return bands == bands[::-1] and len(set(bands)) > 1


def _refuse_impossible(bands: tuple[int, ...], total: int, bounds: _Bounds, num_layers: int, key: str) -> None:
    least, most = bounds.low * num_layers, bounds.high * num_layers
    if not least <= total <= most:
        near = min(max(total, least), most)
        rule = f"between {least} and {most} experts ({bounds.low} to {bounds.high} in each of {num_layers} layers)"
        raise ConfigError(f"{key} must spend {rule}, got a total of {total}; the nearest possible is total={near}")
    if _is_mirrored(bands) and num_layers % 2 == 0 and total % 2:
        near_totals = f"total={total - 1} or total={total + 1}" if total > least else f"total={total + 1}"
        raise ConfigError(
            f"{key} must spend an even total on {num_layers} layers to be its own mirror image, got {total}; "
            f"the nearest possible is {near_totals}"
        )


def _rounded(weights: Sequence[Fraction], total: int, bounds: _Bounds) -> tuple[int, ...]:
    """Round the weights, scaled to `total`, one expert at a time to the layer that is owed most."""
    scale = Fraction(total) / sum(weights) if weights else 1
    ideal = [weight * scale for weight in weights]
    counts = [min(max(int(share), bounds.low), bounds.high) for share in ideal]
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        movable = [layer for layer, count in enumerate(counts) if bounds.low <= count + step <= bounds.high]
        # Among equals the higher layer gets the expert, so that rising bands stay rising.
        counts[max(movable, key=lambda layer: (step * (ideal[layer] - counts[layer]), step * layer))] += step
    return tuple(counts)


def _mirrored(weights: Sequence[Fraction], total: int, bounds: _Bounds) -> tuple[int, ...]:
    """Round one half and reflect it; with an odd number of layers the middle one settles the parity."""
    half = len(weights) // 2
    if len(weights) % 2 == 0:
        left = _rounded(weights[:half], total // 2, bounds)
        return left + left[::-1]
    lowest = max(bounds.low, total - 2 * half * bounds.high)
    highest = min(bounds.high, total - 2 * half * bounds.low)
    ideal = weights[half] * total / sum(weights)
    middle = min(
        (count for count in range(lowest, highest + 1) if (total - count) % 2 == 0),
        key=lambda count: abs(count - ideal),
    )
    left = _rounded(weights[:half], (total - middle) // 2, bounds)
    return (*left, middle, *left[::-1])
