"""What a saved run loses without one expert, or without what its method adds to one layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from molex_cli.checkpoints import saved_run
from molex_cli.checkpoints.adapter import adapt
from molex_cli.checkpoints.saved_run import EvaluationRequest, SavedRun, predictions, prepared
from molex_cli.data.reading import Split
from molex_cli.errors import ConfigError
from molex_cli.methods.base import LayerExperts
from molex_cli.statistics import intervals, pseudo_values
from molex_cli.statistics.expert_similarity import ExpertSimilarity, layer_and_module, of_factors


@dataclass(frozen=True, kw_only=True)
class AblatedPart:
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


def ablated(run: SavedRun, request: EvaluationRequest, *, each_expert: bool) -> tuple[float, list[AblatedPart]]:
    """Return the score of the whole run, and what it loses without each part."""
    split, objective = prepared(run, request)
    whole = predictions(run, request, split, objective)
    metric, labels = request.task.metrics[0], request.task.labels or run.labels
    positive = request.task.positive_label(labels)
    ablations = []
    layers = run.experiment.method.experts(run.adapted)
    for layer, expert in parts(layers, each_expert=each_expert):
        with layers[layer].without(expert):
            rest = predictions(run, request, split, objective)
        values = [pseudo_values.of_rows(each.rows, metric, labels, positive) for each in (rest, whole)]
        interval = intervals.Interval(rest.scores[metric] - whole.scores[metric], np.nan, np.nan)
        if values[0] is not None and values[1] is not None:
            interval = intervals.example_interval(values[0] - values[1])
        pairs = zip(rest.rows, whole.rows, strict=True)
        ablations.append(
            AblatedPart(
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
    return whole.scores[metric], ablations


def losses_without(run: SavedRun, split: Split) -> tuple[float, dict[int, float]]:
    """Return the run's loss on rows of its own task, and that without what the method adds to each layer."""
    request = EvaluationRequest(task=run.experiment.task)
    objective = saved_run.objective_of(run, request)
    layers = run.experiment.method.experts(run.adapted)
    without = {}
    for layer, _ in parts(layers, each_expert=False):
        with layers[layer].without(None):
            without[layer] = predictions(run, request, split, objective).loss
    return predictions(run, request, split, objective).loss, without


def parts(layers: Mapping[int, LayerExperts], *, each_expert: bool) -> list[tuple[int, int | None]]:
    """Return layers, or layers with each of their experts, that can be left out."""
    if not layers:
        raise ConfigError("--ablate must have a run with experts or guests, got one with neither")
    if not each_expert:
        return [(layer, None) for layer in layers]
    return [(layer, expert) for layer, experts in layers.items() for expert in experts.numbers()]


def similarity_at_start(run: SavedRun) -> list[ExpertSimilarity]:
    """Return the similarity of the run's experts before the first step: only what they read is not zero."""
    factors = run.experiment.method.factors(adapt(run.experiment, run.labels))
    return [
        of_factors(down.detach().numpy(), up.detach().numpy(), scale, *layer_and_module(name))
        for name, (down, up, scale) in factors.items()
        if len(down) > 1
    ]
