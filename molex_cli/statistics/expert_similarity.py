"""How alike the experts of a layer are, from their factors alone; no torch, no model.

Expert e of a linear is the update dW_e = scale * B_e A_e. The paper's measure is the mean Frobenius norm of the
difference between two experts (MoLA, arXiv 2402.08562, definition 6.1); whether of the products B A or of A and B
apart, the paper does not say. Here it is the products: A alone is mostly its random start. They are never formed: with
the r x r matrices B_a' B_b and A_a A_b',

    <dW_a, dW_b> = scale^2 * sum((B_a' B_b) * (A_a A_b'))

Dimensions: E experts, R rank, I input features, O output features.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molex_cli.errors import CheckpointError, ConfigError
from molex_cli.runtime.paths import require_file

Floats = NDArray[np.float64]

MEASURES = ("norm", "distance", "cosine", "output_overlap", "input_overlap")


@dataclass(frozen=True)
class ExpertSimilarity:
    """How alike the experts of one linear are; matrices are [E, E]."""

    layer: int
    module: str
    norm: Floats
    """Frobenius norm of each expert's update: [E]."""
    distance: Floats
    """Frobenius norm of the difference of two updates."""
    cosine: Floats
    """Their inner product over their norms: 1 for equal directions; NaN beside an update that is zero."""
    output_overlap: Floats
    """Mean squared cosine of the principal angles between what two experts can write, the columns of B."""
    input_overlap: Floats
    """The same between what two experts read, the rows of A."""

    @property
    def num_experts(self) -> int:
        """Return the number of experts."""
        return len(self.distance)

    def as_data(self) -> dict[str, Any]:
        """Return the means of all measures, for JSON."""
        measures = {name: self.mean(name) for name in MEASURES}
        return {"layer": self.layer, "module": self.module, "experts": self.num_experts, **measures}

    def mean(self, name: str) -> float:
        """Return a measure's mean, over experts or over pairs of different ones; NaN without any."""
        values: Floats = getattr(self, name)
        chosen = values if values.ndim == 1 else values[np.triu_indices(len(values), 1)]
        chosen = chosen[~np.isnan(chosen)]
        return float(chosen.mean()) if len(chosen) else float("nan")


def of_factors(down_ERI: NDArray[Any], up_ERO: NDArray[Any], scale: float, layer: int, module: str) -> ExpertSimilarity:
    """Return the similarity of a linear's experts, in memory of (E R)^2 beside the factors."""
    experts, rank = down_ERI.shape[:2]
    read = _gram(down_ERI)
    written = _gram(up_ERO)
    products = scale**2 * (read * written).reshape(experts, rank, experts, rank).sum(axis=(1, 3))
    squared = np.diag(products)
    distance = np.sqrt(np.clip(squared[:, None] + squared[None] - 2 * products, 0, None))
    norms = np.sqrt(squared)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(np.outer(norms, norms) > 0, products / np.outer(norms, norms), np.nan)
    return ExpertSimilarity(layer, module, norms, distance, cosine, _overlap(written, experts), _overlap(read, experts))


def of_run(file: Path, scale_of: Callable[[str, Mapping[str, Any]], float]) -> list[ExpertSimilarity]:
    """Return the similarity of the experts of every linear of a saved adapter, layer by layer.

    `scale_of` gives the factor of B A from the registered name of the run's method and its settings.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(require_file(file), framework="np") as tensors:
            about = json.loads((tensors.metadata() or {})["molex"])
            names = sorted(name.removesuffix(".down") for name in tensors.keys() if name.endswith(".down"))  # noqa: SIM118
            scale = scale_of(about["method_class"], about["settings"]["method"]) if names else 1.0
            found = [
                of_factors(
                    tensors.get_tensor(f"{name}.down"),
                    tensors.get_tensor(f"{name}.up"),
                    scale,
                    *layer_and_module(name),
                )
                for name in names
            ]
    except FileNotFoundError:
        other = {"last": "best", "best": "last"}.get(file.stem.removeprefix("adapter-"), "")
        way_out = f"; --which {other} is there" if file.with_name(f"adapter-{other}.safetensors").exists() else ""
        raise CheckpointError(f"{file} does not exist{way_out}") from None
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file} must be an adapter that molex saved, got {error}") from None
    several = sorted((each for each in found if each.num_experts > 1), key=lambda each: (each.layer, each.module))
    if not several:
        raise ConfigError(f"a run must have layers of several experts, got none in {file.parent.name}")
    return several


def by_layer(found: list[ExpertSimilarity], name: str) -> dict[int, float]:
    """Return a measure's mean over the linears of each layer."""
    layers = sorted({each.layer for each in found})
    means = {layer: [each.mean(name) for each in found if each.layer == layer] for layer in layers}
    known = {layer: [value for value in values if not np.isnan(value)] for layer, values in means.items()}
    return {layer: float(np.mean(values)) if values else float("nan") for layer, values in known.items()}


def table(found: list[ExpertSimilarity], name: str) -> tuple[list[str], list[str], Floats]:
    """Return layers, modules and a measure of each, [layers, modules], for a heat map."""
    layers, modules = sorted({each.layer for each in found}), list(dict.fromkeys(each.module for each in found))
    values = np.full((len(layers), len(modules)), np.nan)
    for each in found:
        values[layers.index(each.layer), modules.index(each.module)] = each.mean(name)
    return [f"layer {layer}" for layer in layers], modules, values


def _gram(factors_ERF: NDArray[Any]) -> Floats:
    """Return the inner products of all rows of all experts: [E R, E R]."""
    flat = np.asarray(factors_ERF, dtype=np.float64).reshape(-1, factors_ERF.shape[-1])
    return flat @ flat.T


def _overlap(gram: Floats, experts: int) -> Floats:
    """Return the mean squared cosine of the principal angles between the spans of each two experts' rows: [E, E]."""
    rank = len(gram) // experts
    blocks = gram.reshape(experts, rank, experts, rank).transpose(0, 2, 1, 3)
    whitened = [_inverse_root(blocks[e, e]) for e in range(experts)]
    found = np.full((experts, experts), np.nan)
    for a, b in product(range(experts), repeat=2):
        dimensions = min(whitened[a].shape[0], whitened[b].shape[0])
        if dimensions:
            found[a, b] = ((whitened[a] @ blocks[a, b] @ whitened[b].T) ** 2).sum() / dimensions
    return found


def _inverse_root(gram_RR: Floats) -> Floats:
    """Return W with W G W' = 1 on what the rows span: [rank of G, R]."""
    values, vectors = np.linalg.eigh(gram_RR)
    kept = values > max(values.max(), 0) * 1e-10
    root: Floats = (vectors[:, kept] / np.sqrt(values[kept])).T if kept.any() else np.empty((0, len(values)))
    return root


def layer_and_module(name: str) -> tuple[int, str]:
    """Return layer and module of a linear's name: the first number in it, and what follows."""
    match = re.search(r"\.(\d+)\.(.+)$", f".{name}")
    if match is None:
        raise ValueError(f"{name} without a layer's number")
    return int(match[1]), match[2]
