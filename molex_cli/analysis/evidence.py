"""What rules of allocation look at: a base model's weights, its gradients and hidden states on a few training rows.

Everything is of the base model without adapters, in float32 and without dropout. A head that no checkpoint gave comes
from the allocation's own seed, so that all seeds of a run share one allocation.

Dimensions: B rows, T tokens, D features.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from molex_cli.analysis import probe
from molex_cli.analysis.ablation import losses_without
from molex_cli.checkpoints import adapter, saved_run
from molex_cli.config.schema import Experiment
from molex_cli.data import reading
from molex_cli.data.batches import scoring_order
from molex_cli.data.encoding import Encoded
from molex_cli.data.reading import Split
from molex_cli.data.selection import Selection
from molex_cli.errors import CheckpointError, ConfigError, ModelError, MolexError
from molex_cli.methods.allocation import Allocation
from molex_cli.methods.allocations.base import Needs
from molex_cli.methods.base import Adapted
from molex_cli.models.loading import load
from molex_cli.models.structure import ALL_LINEAR, Backbone, Linear
from molex_cli.objectives import Objective, build_objective, head_outputs
from molex_cli.objectives.base import Batch, for_model, on
from molex_cli.objectives.splits import encoded_splits
from molex_cli.records import read_record
from molex_cli.runtime import hardware
from molex_cli.runtime.hardware import stream_seed
from molex_cli.runtime.paths import expanded

BATCH = 8  # examples; any other number gives the same but for rounding
READ = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Sample:
    """The training rows that rules read."""

    encoded: Encoded
    objective: Objective
    labels: list[str]


class BaseEvidence:
    """Evidence of an experiment's base model; each kind is computed once, when it is first asked for."""

    def __init__(self, experiment: Experiment, allocation: Allocation) -> None:
        task = next(iter(experiment.stages.values()), experiment.task)
        self.experiment, self.allocation = replace(experiment, task=task, stages={}), allocation
        self.rows: dict[Needs, tuple[int, int]] = {}
        """Training rows that were read for rules of a need, and those that there are."""

    @property
    def num_layers(self) -> int:
        """Return the number of the model's blocks."""
        return self.experiment.model.num_layers() or self._backbone.num_layers

    def weights(self) -> list[list[Tensor]]:
        """Return the weights of each layer's linears: [out, in] each, float32."""
        return self._by_layer([linear.module.weight.detach() for linear in self._linears])

    def gradients(self) -> list[list[Tensor]]:
        """Return the gradients of the mean loss of the rows, as `weights`."""
        return self._gradients

    def squared_gradients(self) -> list[list[Tensor]]:
        """Return the means over rows of the squared gradients of each row's loss, as `weights`."""
        return self._squared_gradients

    @torch.no_grad()
    def similarities(self) -> list[float]:
        """Return the mean cosine between what goes into a layer and what comes out, over all tokens but padding."""
        sums = torch.zeros(self.num_layers, dtype=torch.float64, device=self._device)
        tokens = 0
        with probe.recorded(self._backbone.blocks) as states:
            for batch in self._batches(BATCH):
                self._backbone.model.base_model(**{name: batch[name] for name in READ if name in batch})
                is_real_BT = batch["attention_mask"].bool()
                for layer in range(self.num_layers):
                    # Of cosines near 1 float32 would leave the score few digits.
                    before, after = states[layer].double(), states[layer + 1].double()
                    cosines_BT = functional.cosine_similarity(before, after, dim=-1)
                    sums[layer] += cosines_BT[is_real_BT].sum()
                tokens += int(is_real_BT.sum())
                states.clear()
        return (sums / tokens).tolist()

    def probe_scores(self) -> list[float]:
        """Return how well a linear probe reads the task off what goes into the first layer, then off each output."""
        sample = self._sample
        return probe.cross_validated(self._adapted, self.experiment.task, sample.encoded, sample.labels, self._device)

    def losses_without(self) -> tuple[float, list[float]]:
        """Return the loss of a finished run on the rows, and its losses without what it adds to each layer."""
        return self._losses_without

    @cached_property
    def _device(self) -> torch.device:
        if self.experiment.hardware.threads:
            torch.set_num_threads(self.experiment.hardware.threads)
        if hardware.shared_by_others():  # the processes must know each other to agree
            return hardware.accelerator(self.experiment.hardware).device
        hardware.require_device(self.experiment.hardware)
        return torch.device("cuda" if hardware.computes_on_gpu(self.experiment.hardware) else "cpu")

    @cached_property
    def _split(self) -> tuple[Split, list[str]]:
        """Return the drawn training rows, and the labels; rows that are set apart are no training rows."""
        train = self.experiment.train
        selection = Selection(train.selection, train.selection_seed)
        splits, labels = reading.read(self.experiment.task, self.experiment.data_dir, train.max_rows, selection)
        return self._drawn(splits["train"], Needs.rows), labels

    def _drawn(self, split: Split, need: Needs) -> Split:
        """Return the rows that are read, in their order."""
        count = min(self.allocation.rows, len(split.ids))
        stream = random.Random(stream_seed(self.allocation.seed, "allocation rows"))
        self.rows[need] = count, len(split.ids)
        return split.only(sorted(stream.sample(range(len(split.ids)), count)))

    @property
    def _backbone(self) -> Backbone:
        if isinstance(self._loaded, MolexError):
            raise self._loaded
        return self._loaded

    @cached_property
    def _loaded(self) -> Backbone | MolexError:
        """Return the model, or why there is none: it is not tried again for each rule."""
        try:
            return self._load()
        except MolexError as error:
            return error

    def _load(self) -> Backbone:
        experiment, cache_dir = self.experiment, self.experiment.cache_dir
        labels = reading.read_labels(experiment.task, experiment.data_dir)
        outputs = head_outputs(experiment.task, experiment.model, labels)
        found = load(experiment.model, outputs, self.allocation.seed, Path(cache_dir) if cache_dir else None)
        found.model.to(self._device).eval()
        for name, parameter in found.model.named_parameters():
            parameter.requires_grad_(False)
            if not parameter.isfinite().all():
                raise ModelError(f"model={experiment.model.name} must have finite weights, got others in {name}")
        return found

    @property
    def _adapted(self) -> Adapted:
        return Adapted(backbone=self._backbone, groups=[])

    @cached_property
    def _linears(self) -> list[Linear]:
        update = self.experiment.method.low_rank()
        return self._backbone.targets(update.targets if update else [ALL_LINEAR])

    @cached_property
    def _sample(self) -> Sample:
        split, labels = self._split
        train = self.experiment.train
        objective = build_objective(self.experiment.task, self.experiment.model, labels, train.label_smoothing)
        encoded = encoded_splits(self.experiment, self._backbone, objective, {"train": split})["train"]
        return Sample(encoded, objective, labels)

    def _batches(self, size: int) -> Iterator[Batch]:
        """Yield the rows, those of like length together."""
        encoded, pad_id = self._sample.encoded, self._backbone.tokenizer.pad_token_id
        for examples in scoring_order(encoded.lengths, size):
            batch = self._sample.objective.batch(encoded, examples, pad_id, None)
            yield for_model(self._adapted, on(self._device, batch))

    @cached_property
    def _gradients(self) -> list[list[Tensor]]:
        sums, total = self._zeros(), 0
        for batch in self._batches(BATCH):
            weight = self._sample.objective.weight(batch)
            for found, gradient in zip(sums, self._of_loss(batch), strict=True):
                found.add_(gradient, alpha=weight)
            total += weight
        return self._by_layer([found / total for found in sums])

    @cached_property
    def _squared_gradients(self) -> list[list[Tensor]]:
        sums, total = self._zeros(), 0
        for row in self._batches(1):
            for found, gradient in zip(sums, self._of_loss(row), strict=True):
                found.addcmul_(gradient, gradient)
            total += 1
        return self._by_layer([found / total for found in sums])

    def _zeros(self) -> list[Tensor]:
        return [torch.zeros_like(linear.module.weight) for linear in self._linears]

    def _of_loss(self, batch: Batch) -> Sequence[Tensor]:
        """Return the gradients of a batch's mean loss with respect to the weights of the linears."""
        weights = [linear.module.weight.requires_grad_() for linear in self._linears]
        loss = self._sample.objective.loss(self._backbone.model, batch)
        return torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)

    def _by_layer(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return tensors of the linears' weights layer by layer, [out, in]."""
        layers: list[list[Tensor]] = [[] for _ in range(self.num_layers)]
        for linear, tensor in zip(self._linears, tensors, strict=True):
            layers[linear.layer].append(tensor.t() if isinstance(linear.module, Conv1D) else tensor)
        return layers

    @cached_property
    def _losses_without(self) -> tuple[float, list[float]]:
        path = expanded(self.allocation.from_run or "")
        self._require_measurable(path)
        run = saved_run.opened(path, "last", self.experiment.hardware, self.experiment.cache_dir)
        own, train = run.experiment, run.experiment.train
        if not own.method.experts(run.adapted):
            rule = "a run of a method with experts, low-rank updates or guests"
            raise ConfigError(f"method.allocation.from_run must be {rule}, got {path} of method={own.method.name}")
        selection = Selection(train.selection, train.selection_seed)
        splits, _ = reading.read(own.task, own.data_dir or self.experiment.data_dir, train.max_rows, selection)
        whole, without = losses_without(run, self._drawn(splits["train"], Needs.run))
        return whole, [without[layer] for layer in range(self.num_layers)]

    def _require_measurable(self, path: Path) -> None:
        """Raise ConfigError unless a run has ended well and has experts in every layer of a model as deep as this."""
        key, name = "method.allocation.from_run", path
        if not (path / "record.json").is_file():
            raise ConfigError(f"{key} must be the folder of a finished run, got {name}, where there is none")
        record = read_record(path)
        if record.status != "finished":
            raise ConfigError(f"{key} must be a run that has finished, got {name}, which is {record.status}")
        try:
            saved = adapter.read_about(saved_run.adapter_file(path, "last"))
        except CheckpointError as error:
            raise ConfigError(f"{key} must hold the last adapter of its run, got: {error}") from None
        if saved.experiment.stages:
            raise ConfigError(f"{key} must be a run on one task, got {name} with stages")
        counts = record.experts_per_layer or record.rank_per_layer
        depth = saved.experiment.model.num_layers() or (len(counts) if counts else self.num_layers)
        if depth != self.num_layers:
            raise ConfigError(f"{key} must be a run of {self.num_layers} layers, got {name} of {depth}")
        if counts and (empty := [str(layer) for layer, count in enumerate(counts) if not count]):
            raise ConfigError(f"{key} must have experts in every layer, got {name} without any in {', '.join(empty)}")
