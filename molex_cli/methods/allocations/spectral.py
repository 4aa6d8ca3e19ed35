"""Spectral: a layer whose weights have spectra with light tails is trained least and deserves most (AlphaLoRA).

Qing et al. 2024, arXiv 2410.10054. `spectral_paper` does what the published code does.
"""

from molex_cli.methods.allocations.base import Evidence, Needs, Rule, register

POWER = 2.5  # the paper's beta


def scores(evidence: Evidence) -> list[float]:
    """Return the mean exponent of the eigenvalue spectra of a layer's linears, to the power 2.5; 0 without linears."""
    import torch

    from molex_cli.statistics.power_law import exponent

    found = []
    for layer in evidence.weights():
        # Squared, the singular values of W are the eigenvalues of W^T W that are not zero by its shape.
        spectra = [torch.linalg.svdvals(weight.double()).square().cpu().numpy() for weight in layer]
        exponents = [exponent(spectrum) for spectrum in spectra]
        found.append((sum(exponents) / len(exponents)) ** POWER if exponents else 0.0)
    return found


register("spectral", Rule(scores, Needs.weights))
