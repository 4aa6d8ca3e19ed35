"""Loss and perplexity on a text, of an adapted model and of its bare base: what fine-tuning made the model forget.

The text is one row of tokens. Windows of W tokens begin every S tokens; of each the last S are scored, given the W - S
before them: every scored token has at least that much context, none is scored twice, and the first W - S of the text
are not scored (the strided windows of transformers' page on perplexity). A method that chooses layers from a prompt
chooses them from that context.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from molex_cli.checkpoints import adapter
from molex_cli.checkpoints.adapter import Saved
from molex_cli.config.task import AnswerMode, Task
from molex_cli.data.encoding import Encoded
from molex_cli.data.prompts import without_end
from molex_cli.errors import ConfigError, DataError
from molex_cli.methods.base import Adapted
from molex_cli.methods.placement import place
from molex_cli.models.loading import load, longest_input
from molex_cli.objectives.causal_lm import CausalLM
from molex_cli.records.parts import MetricRecord
from molex_cli.runtime import hardware
from molex_cli.runtime.paths import require_file
from molex_cli.statistics.intervals import example_interval

LOWER: MetricRecord = {
    "source": "text",
    "digest": "",
    "higher_is_better": False,
    "low": None,
    "high": None,
    "by_example": "mean",
    "when_undefined": None,
}
METRICS: dict[str, MetricRecord] = {"loss": LOWER, "loss_increase": LOWER, "perplexity": {**LOWER, "by_example": "no"}}


@dataclass(frozen=True, kw_only=True)
class TextRequest:
    """A text, and how it is divided."""

    file: Path
    window: int
    """Tokens that the model sees at once."""
    stride: int
    """Tokens of each window that are scored, at its end."""
    max_windows: int | None = None


def windows(about: Saved, request: TextRequest) -> Encoded:
    """Return the text as windows of the run's tokens; raise DataError or ConfigError where there are none."""
    experiment = about.experiment
    reader = adapter.reader(experiment, about.labels)
    window, stride = request.window, request.stride
    if (most := longest_input(reader)) is not None and window > most:
        raise ConfigError(f"train.max_length must fit {experiment.model.name}, at most {most}, got {window}")
    if not 0 < stride < window:
        raise ConfigError(f"text_stride must be from 1 to {window - 1}, below train.max_length, got {stride}")
    tokens = without_end(reader.tokenizer, reader.tokenizer(text_of(request.file))["input_ids"])
    context = window - stride
    if len(tokens) <= context:
        raise DataError(
            f"text must have more than {context} tokens, got {len(tokens)} in {request.file}; lower train.max_length"
        )
    begins = range(0, len(tokens) - context, stride)[: request.max_windows]
    rows = [tokens[begin : begin + window] for begin in begins]
    return Encoded(
        ids=[str(index) for index in range(len(rows))],
        labels=[None] * len(rows),
        tokens=np.array([token for row in rows for token in row], dtype=np.int32),
        types=np.array([], dtype=np.int8),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        starts=np.full(len(rows), context),
    )


def text_of(file: Path) -> str:
    """Return what a file holds; raise DataError unless it is text in UTF-8."""
    try:
        text = require_file(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"text must be in UTF-8, got byte 0x{error.object[error.start]:02x} in {file}") from None
    except OSError as error:
        raise DataError(f"text must be a file that can be read, got {file}: {error.strerror}") from None
    if not text.strip():
        raise DataError(f"text must hold a text, got nothing in {file}")
    return text


def described(request: TextRequest, encoded: Encoded) -> dict[str, Any]:
    """Return what an evaluation says of the text and of how it was divided."""
    return {
        "task": request.file.name,
        "seed": 0,
        "metrics": METRICS,
        "rows": len(encoded.ids),
        "rows_used": len(encoded.ids),
        "fingerprint": hashlib.sha256(encoded.tokens.tobytes()).hexdigest()[:16],
        "source": request.file.name,
        "max_length": request.window,
        "protocol": {"window": request.window, "stride": request.stride, "windows": len(encoded.ids)},
        "answer_mode": "text",
    }


class Bases:
    """The losses of bare base models, each computed once for all runs that share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Tensor] = {}

    def losses(
        self, about: Saved, encoded: Encoded, size: int, settings: hardware.Hardware, cache_dir: str | None
    ) -> Tensor:
        """Return log-likelihood and number of scored tokens of each window [W, 2] without any method in the model."""
        seed = about.experiment.seed if about.experiment.model.random else 0  # a language model has no other weights
        tokens = hashlib.sha256(b"".join(each.tobytes() for each in (encoded.tokens, encoded.offsets, encoded.starts)))
        key = (repr(about.experiment.model), repr(settings), seed, size, tokens.hexdigest())
        if key not in self._known:
            bare = load(about.experiment.model, None, about.experiment.seed, Path(cache_dir) if cache_dir else None)
            bare.model.requires_grad_(False)
            accelerator = hardware.accelerator(settings)
            place(adapted := Adapted(backbone=bare, groups=[]), settings, accelerator)
            self._known[key] = losses(adapted, encoded, size, accelerator.device)
        return self._known[key]


def losses(adapted: Adapted, encoded: Encoded, size: int, device: torch.device) -> Tensor:
    """Return log-likelihood and number of scored tokens of each window: [W, 2]."""
    return CausalLM(Task(name="text"), AnswerMode.likelihood, []).values(adapted, encoded, size, device)


def compared(adapted: Tensor, base: Tensor) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the scores from the values [W, 2] of adapted and bare model, and a line for each window.

    A window's value is its negative log-likelihood over the mean number of scored tokens of a window: the mean of these
    is the mean over tokens, though the last window may have fewer.
    """
    tokens = float(adapted[:, 1].double().mean())
    loss, base_loss = ((-values[:, 0].double() / tokens).tolist() for values in (adapted, base))
    lines = [
        {"id": str(i), "values": {"loss": own, "loss_increase": own - bare, "base_loss": bare}}
        for i, (own, bare) in enumerate(zip(loss, base_loss, strict=True))
    ]
    interval = example_interval([own - bare for own, bare in zip(loss, base_loss, strict=True)])
    mean, base_mean = float(np.mean(loss)), float(np.mean(base_loss))
    found = {
        "scores": {
            "loss": mean,
            "loss_increase": mean - base_mean,
            "perplexity": _exp(mean),
            "base_loss": base_mean,
            "base_perplexity": _exp(base_mean),
        },
        "increase": _finite(asdict(interval)),
        "tokens": int(adapted[:, 1].sum()),
    }
    return found, lines


def _finite(interval: Mapping[str, float]) -> dict[str, float | None]:
    """Return an interval's estimate and ends; an end that is unknown, as with one window, is None."""
    return {name: interval[name] if math.isfinite(interval[name]) else None for name in ("estimate", "low", "high")}


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
