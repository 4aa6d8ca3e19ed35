"""What inference costs: a prompt and each token after it, as ratios within one run; on request a training step too.

The arms take turns step by step, a generated token being a step, in an order drawn anew each time, so that what
else the machine does hits all of them alike. The floor is the base alone, without a method; LoRA merged into the
weights must cost the same, and LoRA unmerged is the least that an adapter costs which can still be taken off.

Dimensions: B rows, T tokens, O output features, I input features.
"""

import copy
import dataclasses
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molex_cli.config.schema import Experiment
from molex_cli.cost import measuring, training_step
from molex_cli.errors import ConfigError
from molex_cli.methods.base import ADAPTERS, Adapted, Method
from molex_cli.methods.lora import LoRA
from molex_cli.models.loading import family, load, longest_input
from molex_cli.models.settings import Model
from molex_cli.models.structure import Backbone, is_decoder
from molex_cli.runtime import hardware
from molex_cli.runtime.hardware import Device, random_stream

BASE, MERGED, UNMERGED = "base", "lora merged", "lora unmerged"
PROMPT, TOKEN, TRAINING = "prompt", "token", "training"


@dataclass(frozen=True, kw_only=True)
class Load(training_step.Load):
    """What every arm does in a round."""

    new_tokens: int = 16
    """Tokens generated after the prompt; 0 generates none."""
    training: bool = False
    """Do a training step too."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One arm: what is put into the base."""

    name: str
    method: Method | None
    """None leaves the base alone."""
    experts: float | None = None
    """Mean experts a layer, for the arms that differ in nothing else but the top k."""
    top_k: int | None = None


@dataclass(kw_only=True)
class Measure:
    """The cost of one thing that an arm does."""

    milliseconds: float
    """Median over all rounds: of a pass over the prompt, of a generated token, of a training step."""
    middle_half_milliseconds: tuple[float, float]
    """What the middle half of them took, from its least to its most."""
    tokens_per_second: float
    """Of all rows together."""
    ratio: dict[str, float]
    """To the base, to LoRA merged, to LoRA unmerged."""


@dataclass(kw_only=True)
class Arm:
    """What was measured of one arm."""

    name: str
    experts: float | None
    top_k: int | None
    measures: dict[str, Measure] = field(default_factory=dict)


@dataclass
class Answer:
    """An arm that answers: a prompt of random tokens, then the likeliest token after it, and the next."""

    model: Any
    ids_BT: Tensor
    writes: bool
    """Whether tokens follow the prompt."""
    written: list[Tensor] = field(default_factory=list)
    """[B, 1] each."""

    @torch.inference_mode()
    def prompt(self) -> None:
        """Pass over the prompt, from the beginning."""
        self._mask_BT = torch.ones_like(self.ids_BT)
        # As `generate` does: the cache filled, and the vocabulary's scores of the last token alone.
        wanted: dict[str, Any] = {"use_cache": True, "logits_to_keep": 1} if self.writes else {}
        output = self.model(input_ids=self.ids_BT, attention_mask=self._mask_BT, **wanted)
        if self.writes:
            self.written = []
            self._take(output)

    @torch.inference_mode()
    def token(self) -> None:
        """Write one more token."""
        output = self.model(
            input_ids=self.written[-1], attention_mask=self._mask_BT, past_key_values=self._cache, use_cache=True
        )
        self._take(output)

    def _take(self, output: Any) -> None:
        self.written.append(output.logits[:, -1:].argmax(-1))
        self._cache = output.past_key_values
        self._mask_BT = torch.cat([self._mask_BT, torch.ones_like(self.written[-1])], 1)


@dataclass(frozen=True)
class Phase:
    """A part of a round: each arm does its step, so many times."""

    measure: str
    times: int
    steps: Mapping[str, Callable[[], None]]


def generates(model: Model) -> bool:
    """Return whether the model is a decoder, so that it can write tokens."""
    return is_decoder(family(model))


def setups(mola: Method, lora_rank: int, pairs: Sequence[tuple[float, int]], others: Sequence[Method]) -> list[Setup]:
    """Return the arms: the base, LoRA merged and unmerged, MoLA at each (mean experts, top k), other methods."""
    update = mola.low_rank()
    assert update is not None, "a method with a number of experts has low-rank ones"
    lora = LoRA(rank=lora_rank, alpha=update.scale * lora_rank, dropout=update.dropout, targets=update.targets)
    grid = [
        Setup(
            name=f"{experts:g} expert{'' if experts == 1 else 's'}, top {top_k}",
            method=mola.with_experts(experts, top_k),
            experts=experts,
            top_k=top_k,
        )
        for experts, top_k in pairs
    ]
    return [
        Setup(name=BASE, method=None),
        Setup(name=MERGED, method=lora),
        Setup(name=UNMERGED, method=lora),
        *grid,
        *(Setup(name=method.name, method=method) for method in others),
    ]


def measured(arms: Sequence[Setup], experiment: Experiment, work: Load) -> list[Arm]:
    """Return the median cost of every arm."""
    hardware.accelerator(dataclasses.replace(experiment.hardware, device=Device.cpu))  # threads as the settings say
    phases = [*_answering(arms, experiment, work), *(_training(arms, experiment, work) if work.training else ())]
    seconds = _seconds(phases, work.rounds)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    measured_arms = {arm.name: Arm(name=arm.name, experts=arm.experts, top_k=arm.top_k) for arm in arms}
    for (name, measure), median in medians.items():
        measured_arms[name].measures[measure] = Measure(
            milliseconds=median * 1000,
            middle_half_milliseconds=measuring.middle_half(seconds[name, measure]),
            tokens_per_second=work.rows * (1 if measure == TOKEN else work.tokens) / median,
            ratio={
                other: median / medians[other, measure]
                for other in (BASE, MERGED, UNMERGED)
                if (other, measure) in medians
            },
        )
    return list(measured_arms.values())


def answering_model(arm: Setup, backbone: Backbone) -> Any:
    """Return a copy of the model, in evaluation mode, that answers as the arm does; frozen weights are shared."""
    # Frozen weights are read and never written here, and ten copies of them would fill the memory.
    shared = {id(tensor): tensor for tensor in [*backbone.model.parameters(), *backbone.model.buffers()]}
    own = copy.deepcopy(backbone, shared)
    if arm.method is not None:
        with random_stream(0, "adapters"):
            adapted = arm.method.inject(own)
            _move_from_start(adapted)
        if adapted.tokens is not None:
            adapted.tokens.silent = True  # statistics of the routing are no part of an answer
        if arm.name == MERGED:
            arm.method.merge(adapted)
    return own.model.eval()


def _seconds(phases: Sequence[Phase], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return the seconds of every step by (arm, measure), after the rounds of warm-up."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    keys = [(name, phase.measure) for phase in phases for name in phase.steps]
    order = random.Random(0)
    for done in range(measuring.WARM_UP_ROUNDS + rounds):
        for phase in (each for each in phases for _ in range(each.times)):
            # What an arm finds in the processor's caches depends on who came before it.
            for name in order.sample(list(phase.steps), len(phase.steps)):
                started = time.perf_counter()
                phase.steps[name]()
                if done >= measuring.WARM_UP_ROUNDS:
                    seconds[name, phase.measure].append(time.perf_counter() - started)
    return {key: seconds[key] for key in keys}


def _move_from_start(adapted: Adapted) -> None:
    """Give values to what starts at zero, as every B does: it would hide whether an update is there at all."""
    for parameter in (p for group in adapted.groups if group.name == ADAPTERS for p in group.parameters.values()):
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)


def _answering(arms: Sequence[Setup], experiment: Experiment, work: Load) -> Iterator[Phase]:
    backbone = _loaded(experiment, None if work.new_tokens else 2)
    limit, wanted = longest_input(backbone), work.tokens + work.new_tokens
    if limit is not None and wanted > limit:
        name = experiment.model.name
        raise ConfigError(f"--tokens and --new-tokens must be at most {limit} together with {name}, got {wanted}")
    with random_stream(0, "data/0"):
        ids_BT = torch.randint(5, backbone.model.config.vocab_size, (work.rows, work.tokens))
    answers = {arm.name: Answer(answering_model(arm, backbone), ids_BT, work.new_tokens > 0) for arm in arms}
    yield Phase(PROMPT, 1, {name: answer.prompt for name, answer in answers.items()})
    if work.new_tokens:
        yield Phase(TOKEN, work.new_tokens, {name: answer.token for name, answer in answers.items()})


def _training(arms: Sequence[Setup], experiment: Experiment, work: Load) -> Iterator[Phase]:
    """Yield the training steps of `molex bench`; what is merged cannot be trained."""
    steps = {}
    for arm in arms:
        if arm.name != MERGED:
            backbone = _loaded(experiment, 2)
            with random_stream(0, "adapters"):
                adapted = arm.method.inject(backbone) if arm.method else training_step.floor(backbone)
            steps[arm.name] = training_step.training_step(adapted, work)
    yield Phase(TRAINING, 1, steps)


def _loaded(experiment: Experiment, outputs: int | None) -> Backbone:
    cache_dir = Path(experiment.cache_dir) if experiment.cache_dir else None
    return load(experiment.model, outputs, seed=0, cache_dir=cache_dir)
