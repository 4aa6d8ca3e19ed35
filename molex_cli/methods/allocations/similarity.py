"""Similarity: a layer that changes little deserves little (LayerMoE, arXiv 2505.22582, read for one task)."""

from molex_cli.methods.allocations.base import Evidence, Needs, Rule, register


def scores(evidence: Evidence) -> list[float]:
    """Return 1 less the mean cosine between what goes into a layer and what comes out."""
    return [max(0.0, 1 - similarity) for similarity in evidence.similarities()]


register("similarity", Rule(scores, Needs.rows))
