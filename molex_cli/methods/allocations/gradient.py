"""Gradient: where the loss changes most with the weights (D-MoLE, arXiv 2506.11672; LoRA-SMoE, arXiv 2505.06272)."""

from molex_cli.methods.allocations.base import Evidence, Needs, Rule, register


def scores(evidence: Evidence) -> list[float]:
    """Return the norm of the gradient of the mean loss in all linears of a layer together."""
    return [sum(float(each.square().sum()) for each in layer) ** 0.5 for layer in evidence.gradients()]


register("gradient", Rule(scores, Needs.rows))
