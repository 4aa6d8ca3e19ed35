"""Sensitivity: what the loss would lose without a weight, to first order (GoRA, arXiv 2502.12171)."""

from molex_cli.methods.allocations.base import Evidence, Needs, Rule, register


def scores(evidence: Evidence) -> list[float]:
    """Return the mean of |weight x gradient of the mean loss| over all weights of a layer's linears."""
    found = []
    for weights, gradients in zip(evidence.weights(), evidence.gradients(), strict=True):
        total = sum(float((w * g).abs().sum()) for w, g in zip(weights, gradients, strict=True))
        found.append(total / max(1, sum(weight.numel() for weight in weights)))
    return found


register("sensitivity", Rule(scores, Needs.rows))
