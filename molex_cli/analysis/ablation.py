"""What a saved run loses without one expert, or without what its method adds to one layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from molex_cli.checkpoints.adapter import adapt
from molex_cli.checkpoints.saved_run import EvaluationRequest, SavedRun, predictions, prepared
from molex_cli.errors import ConfigError
from molex_cli.layers.experts import LowRankExperts
from molex_cli.layers.guest_vote import GuestChoice
from molex_cli.methods.base import Adapted
from molex_cli.statistics import paired, pseudo_values
from molex_cli.statistics.expert_similarity import ExpertSimilarity, layer_and_module, of_factors


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What the score changes by without a layer's experts (or guest), or without one of its experts."""

    layer: int
    expert: int | None
    score: float
    change: float
    low: float
    high: float
    """95 % interval of the change over the examples of this one run, by the paired bootstrap; NaN where unknown."""
    predictions_changed: int
    of: int


def ablated(run: SavedRun, question: EvaluationRequest, *, each_expert: bool) -> tuple[float, list[Loss]]:
    """Return the score of the whole run, and what it loses without each part."""
    split, objective = prepared(run, question)
    whole = predictions(run, question, split, objective)
    metric = question.task.metrics[0]
    found = []
    for layer, expert in parts(run.adapted, each_expert=each_expert):
        with without(run.adapted, layer, expert):
            rest = predictions(run, question, split, objective)
        values = [pseudo_values.of_rows(each.rows, metric, run.labels) for each in (rest, whole)]
        interval = paired.Interval(rest.scores[metric] - whole.scores[metric], np.nan, np.nan)
        if values[0] is not None and values[1] is not None:
            interval = paired.example_interval(values[0] - values[1])
        pairs = zip(rest.rows, whole.rows, strict=True)
        found.append(
            Loss(
                layer=layer,
                expert=expert,
                score=rest.scores[metric],
                change=interval.estimate,
                low=interval.low,
                high=interval.high,
                predictions_changed=sum(one["prediction"] != other["prediction"] for one, other in pairs),
                of=len(whole.rows),
            )
        )
    return whole.scores[metric], found


def parts(adapted: Adapted, *, each_expert: bool) -> list[tuple[int, int | None]]:
    """Return layers, or layers with each of their experts, that can be left out."""
    if guests := [layer for layer, router in adapted.routers.items() if isinstance(router, GuestChoice)]:
        if each_expert:
            raise ConfigError("--ablate must be layers for MoLEx, whose guests are layers, got experts")
        return [(layer, None) for layer in guests]
    counts = {layer: module.num_experts for layer, module in _experts(adapted)}
    if not counts:
        raise ConfigError("--ablate must have a run with experts or guests, got one with neither")
    if not each_expert:
        return [(layer, None) for layer in sorted(counts)]
    return [(layer, expert) for layer in sorted(counts) for expert in range(counts[layer])]


@contextmanager
def without(adapted: Adapted, layer: int, expert: int | None) -> Iterator[None]:
    """Leave out an expert of all linears of a layer, or all of them; MoLEx's layer mixes with itself instead.

    The router and the gates of the others stay as they are, so that the loss is that of the expert alone.
    """
    router = adapted.routers.get(layer)
    if isinstance(router, GuestChoice):
        router.pinned = layer
        try:
            yield
        finally:
            router.pinned = None
        return
    modules = [module for each, module in _experts(adapted) if each == layer]
    kept = [module.up.detach().clone() for module in modules]
    try:
        with torch.no_grad():
            for module in modules:
                module.up[slice(None) if expert is None else expert] = 0
        yield
    finally:
        with torch.no_grad():
            for module, up in zip(modules, kept, strict=True):
                module.up.copy_(up)


def similarity_at_start(run: SavedRun) -> list[ExpertSimilarity]:
    """Return the redundancy of the run's experts before the first step: only what they read is not zero."""
    started = adapt(run.experiment, run.labels)
    settings: Any = run.experiment.method
    return [
        of_factors(
            module.down.detach().numpy(),
            module.up.detach().numpy(),
            settings.alpha / settings.rank,
            *layer_and_module(n),
        )
        for n, module in started.model.named_modules()
        if isinstance(module, LowRankExperts) and module.num_experts > 1
    ]


def _experts(adapted: Adapted) -> list[tuple[int, LowRankExperts]]:
    return [(layer_and_module(n)[0], m) for n, m in adapted.model.named_modules() if isinstance(m, LowRankExperts)]
