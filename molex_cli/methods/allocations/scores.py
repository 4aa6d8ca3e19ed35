"""From the scores of layers to whole counts: the one way in which rules become allocations."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from molex_cli.errors import ConfigError

if TYPE_CHECKING:
    from molex_cli.methods.allocations.base import Budget

DIGITS = 6  # of a score; what is beyond them differs between machines and must decide nothing


def counts_of_scores(scores: Sequence[float], budget: "Budget") -> tuple[int, ...]:
    """Return the count of each layer: its score's share of the total within the bounds, rounded by largest remainder.

    Of equal remainders the higher layer's comes first, as in shapes. Raises ConfigError where no counts within the
    bounds have the total.
    """
    budget.require_possible(budget.num_layers)
    shares = _bounded_shares([Fraction(score) for score in scores], budget)
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(counts)), key=lambda layer: (shares[layer] - counts[layer], layer), reverse=True)
    for layer in by_remainder[: budget.total - sum(counts)]:
        counts[layer] += 1
    return tuple(counts)


def checked_scores(scores: Sequence[float], key: str, num_layers: int) -> list[float]:
    """Return scores to a number of digits; raise ConfigError for ones that say nothing. `key` names the rule."""
    found = [float(f"{float(score):.{DIGITS}g}") for score in scores]
    if len(found) != num_layers:
        raise ConfigError(f"{key} must give one score for each of the {num_layers} layers, got {len(found)}")
    if not all(math.isfinite(score) and score >= 0 for score in found):
        raise ConfigError(f"{key} must give finite scores of at least 0, got {' '.join(map(str, found))}")
    if not any(found):
        raise ConfigError(
            f"{key} must give some layer a score above 0, got 0 for all {num_layers} layers; it cannot tell them apart "
            "here: take another rule or a shape"
        )
    return found


def _bounded_shares(weights: Sequence[Fraction], budget: "Budget") -> list[Fraction]:
    """Return shares of the total in proportion to the weights, those beyond a bound cut to it.

    What that adds or takes is shared by the others, again in proportion. Layers without weight share alike what those
    with some may not have.
    """
    shares: dict[int, Fraction] = {}
    waiting = set(range(len(weights)))
    while waiting:
        left, weight = budget.total - sum(shares.values()), sum(weights[layer] for layer in waiting)
        ideal = {j: left * weights[j] / weight if weight else Fraction(left) / len(waiting) for j in waiting}
        bounded = {j: min(max(share, Fraction(budget.low)), Fraction(budget.high)) for j, share in ideal.items()}
        excess = sum(bounded.values()) - left
        # Too much in all: those raised to their least stay there, whatever the others lose; too little: the reverse.
        settled = {j for j in waiting if excess * (bounded[j] - ideal[j]) > 0} if excess else waiting
        shares |= {j: bounded[j] for j in settled}
        waiting = waiting - settled
    return [shares[layer] for layer in range(len(weights))]
