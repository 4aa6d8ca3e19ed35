"""Fisher: the diagonal of the empirical Fisher information, the mean square of each row's gradient."""

from molex_cli.methods.allocations.base import Evidence, Needs, Rule, register


def scores(evidence: Evidence) -> list[float]:
    """Return the mean over all weights of a layer's linears."""
    layers = evidence.squared_gradients()
    return [sum(float(each.sum()) for each in layer) / max(1, sum(each.numel() for each in layer)) for layer in layers]


register("fisher", Rule(scores, Needs.rows))
