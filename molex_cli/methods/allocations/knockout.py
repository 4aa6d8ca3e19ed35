"""Knock-out: a layer whose experts a finished run of another shape misses most deserves more."""

from molex_cli.methods.allocations.base import Evidence, Needs, Rule, register


def scores(evidence: Evidence) -> list[float]:
    """Return what the loss rises by without what the run adds to a layer; 0 where it falls."""
    whole, without = evidence.losses_without()
    return [max(0.0, loss - whole) for loss in without]


register("knockout", Rule(scores, Needs.run))
