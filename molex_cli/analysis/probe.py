"""Linear probes: how well a plain classifier reads the task off the output of each layer of a frozen model.

Dimensions: N examples, B rows of a batch, T tokens, D features, L layers; the input of the first is layer 0.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from molex_cli.checkpoints.saved_run import SavedRun
from molex_cli.compare import plots
from molex_cli.config.task import Kind, Task
from molex_cli.config.task_metrics import inside, metric_of
from molex_cli.data.batches import collate
from molex_cli.data.encoding import Encoded, encode
from molex_cli.data.reading import Split
from molex_cli.errors import ConfigError, DataError, TaskError
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import scored_class
from molex_cli.metrics.constant import best_constant
from molex_cli.objectives.base import on, scoring_batches
from molex_cli.objectives.outside import constants, scores_of
from molex_cli.runtime.extras import install
from molex_cli.runtime.paths import default_cache_dir

TOKENS = ("auto", "mean", "first", "last")
FITS = 1000  # steps of the solver at most
FOLDS = 4  # of rows that a probe is scored on in turn
FOLD_ROWS = 8  # of a batch


@dataclass(frozen=True)
class Probe:
    """What a linear model reads off each layer: its scores on validation, and the first of them on training rows."""

    token: str
    scores: list[dict[str, float]]
    training: list[float]
    constant: dict[str, float]
    """The best scores that the same answer to every validation row reaches."""
    positive: str | None
    """The positive class, where a metric scores one."""


def probed(run: SavedRun, task: Task, splits: Mapping[str, Split], labels: Sequence[str], token: str) -> Probe:
    """Train a linear model on each layer's frozen output and score it."""
    _require_probeable(task)
    if token not in TOKENS:
        raise ConfigError(f"token must be one of {', '.join(TOKENS)}, got {token}")
    if token == "auto":
        token = "last" if run.adapted.backbone.is_decoder else "first"
    cache = Path(run.experiment.cache_dir) if run.experiment.cache_dir else default_cache_dir()
    tokenizer, length = run.adapted.backbone.tokenizer, run.experiment.train.max_length
    encoded = {name: encode(split, tokenizer, length, cache) for name, split in splits.items()}
    size = run.experiment.train.eval_batch_size
    features_of = {name: features(run.adapted, each, token, size, run.device) for name, each in encoded.items()}
    positive = task.positive_class(labels)
    scores, training = [], []
    for layer in range(features_of["train"].shape[1]):
        model = _fitted(features_of["train"][:, layer], encoded["train"].labels, task.kind)
        predicted = model.predict(features_of["validation"][:, layer]).tolist()
        scores.append(scores_of(task, task.metrics, predicted, encoded["validation"].labels, positive))
        predicted = model.predict(features_of["train"][:, layer]).tolist()
        first = scores_of(task, task.metrics[:1], predicted, encoded["train"].labels, positive)
        training.append(first[task.metrics[0]])
    given = encoded["validation"].labels
    constant = best_constant(inside(task), given, positive) | constants(task, task.metrics, given)
    return Probe(token, scores, training, constant, task.positive_label(labels))


def cross_validated(
    adapted: Adapted, task: Task, encoded: Encoded, labels: Sequence[str], device: torch.device
) -> list[float]:
    """Return the first metric of each layer's probe on rows that it was not fitted to: the higher, the better.

    Each of four parts of the rows is predicted by a probe of the others, from the mean of all tokens: one token alone
    knows nothing of the others before the first layer. The input of that comes first.
    """
    _require_probeable(task)
    features_NLD = features(adapted, encoded, "mean", FOLD_ROWS, device)
    part_N, targets = np.arange(len(encoded.ids)) % FOLDS, np.array(encoded.labels)
    metric = metric_of(task, task.metrics[0])
    found = []
    for features_ND in features_NLD.swapaxes(0, 1):
        predicted = np.empty_like(targets)
        for part in range(min(FOLDS, len(targets))):
            known = features_ND[part_N != part], targets[part_N != part].tolist()
            model = _fitted(*known, task.kind, "method.allocation.rows")
            predicted[part_N == part] = model.predict(features_ND[part_N == part])
        positive = task.positive_class(labels)
        score = scores_of(task, [metric.name], predicted.tolist(), encoded.labels, positive)
        found.append(score[metric.name] if metric.higher_is_better else -score[metric.name])
    return found


def _require_probeable(task: Task) -> None:
    if task.kind not in (Kind.classification, Kind.regression):
        raise TaskError(f"task={task.name} must have labels or numbers to be probed for, got kind={task.kind.name}")


@torch.no_grad()
def features(adapted: Adapted, encoded: Encoded, token: str, batch_size: int, device: torch.device) -> np.ndarray:
    """Return the output of every layer for every example, one token's or the mean of all: [N, L + 1, D], float32."""
    adapted.model.eval()
    rows: list[int] = []
    found: list[Tensor] = []
    with recorded(adapted.backbone.blocks) as layers:
        for part in scoring_batches(adapted, encoded, batch_size):
            batch = on(device, collate(encoded, part, adapted.backbone.tokenizer.pad_token_id, adapted.pad_to))
            adapted.model.base_model(**batch)
            found.append(torch.stack([pooled(each, batch["attention_mask"], token) for each in layers], 1))
            rows += part
            layers.clear()
    order = torch.tensor(rows).argsort()
    return torch.cat(found).cpu()[order].float().numpy()


def pooled(hidden_BTD: Tensor, mask_BT: Tensor, token: str) -> Tensor:
    """Return the first or last real token's state, or the mean of all real tokens': [B, D]."""
    if token == "first":
        return hidden_BTD[:, 0]
    if token == "last":
        return hidden_BTD[torch.arange(len(mask_BT), device=mask_BT.device), mask_BT.sum(1) - 1]
    weights_BT1 = mask_BT.unsqueeze(-1).to(hidden_BTD.dtype)
    return (hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1)


@contextmanager
def recorded(blocks: Any) -> Iterator[list[Tensor]]:
    """Collect, while a model computes, what goes into the first block and comes out of each.

    A call within another block's, as that of MoLEx's guest, is a part of that block's output and none of the layer's.
    """
    layers: list[Tensor] = []
    calls: list[Any] = []

    def put_in(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module is blocks[0] and not calls:
            layers.append(args[0] if args else kwargs["hidden_states"])
        calls.append(module)

    def put_out(module: Any, args: tuple[Any, ...], output: Any) -> None:
        calls.pop()
        if not calls:
            layers.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_pre_hook(put_in, with_kwargs=True) for block in blocks]
    handles += [block.register_forward_hook(put_out) for block in blocks]
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def _fitted(features_ND: np.ndarray, targets: list[Any], kind: Kind, more: str = "train.max_rows") -> Any:
    """Return a probe fitted to rows, of which the setting `more` gives more."""
    try:
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise ConfigError(f"molex probe must have scikit-learn, got none; {install('analysis')}") from None
    model = Ridge() if kind is Kind.regression else LogisticRegression(max_iter=FITS)
    if kind is Kind.classification and len(set(targets)) < 2:
        raise DataError(f"a probe must have training rows of two or more labels, got {len(set(targets))}; raise {more}")
    if not np.isfinite(features_ND).all():
        raise DataError("a probe must have finite hidden states, got some that are not; the model cannot be read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant feature, a fit that stops early: the scores show it
        return make_pipeline(StandardScaler(), model).fit(features_ND, targets)


def drawn(probe: Probe, metric: str, title: str, path: Path) -> None:
    """Draw one score against the layer, as PNG, SVG or PDF by the file's ending."""
    layers = range(len(probe.scores))
    lines = [
        plots.Line("validation", layers, [scores[metric] for scores in probe.scores]),
        plots.Line("training rows", layers, probe.training, colour=1, style=2),
    ]
    levels = [plots.Level("best constant", probe.constant[metric], colour=7)] if metric in probe.constant else []
    named = scored_class(metric, probe.positive)
    figure = plots.line_chart(title, lines, levels, x="layer (0: its input)", y=named)
    try:
        figure.savefig(path, dpi=160)
    except (OSError, ValueError) as error:
        raise ConfigError(f"plot must be a file to write ending in png, svg or pdf, got {path} ({error})") from None
