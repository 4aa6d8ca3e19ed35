"""Probe: a layer that makes the task easier to read deserves more."""

from itertools import pairwise

from molex_cli.methods.allocations.base import Evidence, Needs, Rule, register


def scores(evidence: Evidence) -> list[float]:
    """Return what a linear probe of a layer's output gains over one of its input; 0 for a loss."""
    return [max(0.0, above - below) for below, above in pairwise(evidence.probe_scores())]


register("probe", Rule(scores, Needs.rows))
