"""Bands of layers, stretched over any number of layers and rounded so that the total is exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from molex_cli.errors import ConfigError
from molex_cli.methods.allocations.base import Budget


@dataclass(frozen=True)
class Bands:
    """One weight for each band of layers, from the lowest to the highest; a layer over bands of 0 gets none."""

    weights: tuple[int, ...]

    def __call__(self, budget: Budget) -> tuple[int, ...]:
        """Return the count of each layer."""
        weights = stretched(self.weights, budget.num_layers)
        budget.require_possible(sum(weight > 0 for weight in weights))
        if self.is_mirrored:
            self._require_mirror_image(budget, weights)
            return _mirrored(weights, budget.total, budget)
        if self.weights > self.weights[::-1]:  # falling bands are the mirror image of rising ones, rounding included
            return _rounded(weights[::-1], budget.total, budget)[::-1]
        return _rounded(weights, budget.total, budget)

    @property
    def is_mirrored(self) -> bool:
        """Return whether the bands are their own mirror image, and not all alike."""
        return self.weights == self.weights[::-1] and len(set(self.weights)) > 1

    def _require_mirror_image(self, budget: Budget, weights: Sequence[Fraction]) -> None:
        total = budget.total
        has_middle = budget.num_layers % 2 == 1 and weights[budget.num_layers // 2] > 0
        if not has_middle and total % 2:
            more = f"total={total + 1}"
            least = budget.low * sum(weight > 0 for weight in weights)
            near = f"total={total - 1} or {more}" if total > max(1, least) else more
            raise ConfigError(
                f"{budget.key} must spend an even total on {budget.num_layers} layers to be its own mirror image, "
                f"got {total}; the nearest possible is {near}"
            )


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


def _rounded(weights: Sequence[Fraction], total: int, budget: Budget) -> tuple[int, ...]:
    """Round the weights, scaled to `total`, one expert at a time to the layer that is owed most."""
    scale = Fraction(total) / sum(weights) if any(weights) else 1
    ideal = [weight * scale for weight in weights]
    counts = [min(max(int(share), budget.low), budget.high) if share else 0 for share in ideal]
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        movable = [
            layer for layer, count in enumerate(counts) if ideal[layer] and budget.low <= count + step <= budget.high
        ]
        # Among equals the higher layer gets the expert, so that rising bands stay rising.
        counts[max(movable, key=lambda layer: (step * (ideal[layer] - counts[layer]), step * layer))] += step
    return tuple(counts)


def _mirrored(weights: Sequence[Fraction], total: int, budget: Budget) -> tuple[int, ...]:
    """Round one half and reflect it; with an odd number of layers the middle one settles the parity."""
    half = len(weights) // 2
    if len(weights) % 2 == 0:
        left = _rounded(weights[:half], total // 2, budget)
        return left + left[::-1]
    sides = 2 * sum(weight > 0 for weight in weights[:half])
    lowest = max(budget.low, total - sides * budget.high) if weights[half] else 0
    highest = min(budget.high, total - sides * budget.low) if weights[half] else 0
    ideal = weights[half] * total / sum(weights)
    middle = min(
        (count for count in range(lowest, highest + 1) if (total - count) % 2 == 0),
        key=lambda count: abs(count - ideal),
    )
    left = _rounded(weights[:half], (total - middle) // 2, budget)
    return (*left, middle, *left[::-1])
