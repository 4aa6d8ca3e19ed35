"""Spectral as AlphaLoRA's published code has it, quirks included (arXiv 2410.10054).

Where it differs from `spectral`: the tail may begin between log10(0.95 p) and 1.5 p, with p the peak of the histogram
of the logarithms, so that a logarithm is compared with an eigenvalue; the distance is taken on one side of the steps;
zeros are kept. Shares are rounded each on its own, and what then lacks or is too much goes to and comes from the layer
in which score and count differ most, although scores are not scaled to counts: one layer can get or lose it all, and
small shares are none. `min` is not looked at.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from molex_cli.errors import ConfigError
from molex_cli.methods.allocations.base import Budget, Evidence, Needs, Rule, register
from molex_cli.methods.allocations.spectral import POWER

if TYPE_CHECKING:
    from torch import Tensor

BINS = 100


def scores(evidence: Evidence) -> list[float]:
    """Return the mean exponent of a layer's linears to the power 2.5; 0 for a layer without any."""
    found = []
    for layer in evidence.weights():
        exponents = [published_exponent(weight) for weight in layer]
        found.append((sum(exponents) / len(exponents)) ** POWER if exponents else 0.0)
    return found


def published_exponent(weight: "Tensor") -> float:
    """Return the exponent of a weight's spectrum as published; 0 where no tail begins within the bounds."""
    import torch

    values = torch.linalg.svdvals(weight.float()).square().sort().values.cpu()
    if not values[0]:
        raise ConfigError("rule=spectral_paper must have eigenvalues above 0 alone, got 0; take rule=spectral")
    logs, tens = values.log(), values.log10()
    peak = 10 ** torch.linspace(tens.min(), tens.max(), BINS + 1)[torch.histc(tens, BINS).argmax()]
    best = (1.0, 0.0)  # distance and exponent
    for cut in range(len(values) - 1):
        if not torch.log10(0.95 * peak) <= values[cut] <= 1.5 * peak:
            continue
        tail = values[cut:]
        found = 1 + len(tail) / float((logs[cut:] - logs[cut]).sum())
        fit = 1 - (tail / tail[0]) ** (1 - found)
        distance = float((fit - torch.arange(len(tail)) / len(tail)).abs().max())
        best = min(best, (distance, found)) if found > 1 else best
    return best[1]


def counts(scores: Sequence[float], budget: Budget) -> tuple[int, ...]:
    """Return the counts as published; raise ConfigError where they are no counts."""
    found = [round(score / sum(scores) * budget.total) for score in scores]
    layers = range(len(found))
    while (missing := budget.total - sum(found)) != 0:
        if missing > 0:
            found[min(layers, key=lambda layer: scores[layer] - found[layer])] += 1
        else:
            found[max(layers, key=lambda layer: scores[layer] - found[layer])] -= 1
    if min(found) < 0 or max(found) > budget.high or not any(found):
        raise ConfigError(
            f"{budget.key}.rule=spectral_paper must give counts from 0 to {budget.high}, got {found}: the published "
            "rounding keeps no bounds; take rule=spectral"
        )
    return tuple(found)


register("spectral_paper", Rule(scores, Needs.weights, counts))
