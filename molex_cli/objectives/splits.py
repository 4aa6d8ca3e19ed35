"""The splits of a task as tokens, and what a record keeps of them and of how they are scored."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from molex_cli.config import schema
from molex_cli.config.task import AnswerMode, Task
from molex_cli.data import reading
from molex_cli.data.encoding import Encoded
from molex_cli.errors import ConfigError
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import implementations, not_computed
from molex_cli.models.loading import longest_input
from molex_cli.models.sources import default_cache_dir
from molex_cli.objectives.base import Objective


def encoded_splits(
    experiment: schema.Experiment, adapted: Adapted, objective: Objective, splits: dict[str, reading.Split]
) -> dict[str, Encoded]:
    """Return the splits as tokens; raise ConfigError where the model's positions do not reach."""
    most, max_length = longest_input(adapted.backbone), experiment.train.max_length
    if most is not None and max_length > most:
        raise ConfigError(f"train.max_length must fit {experiment.model.name}, at most {most}, got {max_length}")
    written = experiment.task.language.max_new_tokens if objective.answer_mode == AnswerMode.generate.name else 0
    if most is not None and max_length + written > most:
        raise ConfigError(
            f"train.max_length and task.language.max_new_tokens must fit {experiment.model.name} together, at most "
            f"{most}, got {max_length} and {written}"
        )
    cache_dir = Path(experiment.cache_dir) if experiment.cache_dir else default_cache_dir()
    tokenizer = adapted.backbone.tokenizer
    return {
        name: objective.encode(split, tokenizer, max_length, cache_dir, training=name == "train")
        for name, split in splits.items()
    }


def how_scored(
    task: Task, labels: Sequence[str], adapted: Adapted, objective: Objective, batch_size: int
) -> dict[str, Any]:
    """Return the answer mode, what computes each score or why it is not computed, and what the scores depend on."""
    names = task.metrics
    return {
        "labels": list(labels),
        "positive": task.positive_label(labels),
        "answer_mode": objective.answer_mode,
        "implementations": implementations(names),
        "not_computed": not_computed(names),
        "batch_size": batch_size,
        "order": "as in the split" if adapted.batch_dependent else "by length",
        "depends_on_batch": adapted.batch_dependent or None,
    }


def about(split: reading.Split, encoded: Encoded, labels: Sequence[str]) -> dict[str, Any]:
    """Return what the record keeps of a split."""
    rows_of = Counter(split.labels) if labels else Counter()
    return {
        "source": split.source,
        "rows": split.num_rows,
        "rows_used": len(split.ids),
        "tokens": int(encoded.offsets[-1]),
        "fingerprint": split.fingerprint,
        **({"labels": {label: rows_of[i] for i, label in enumerate(labels)}} if labels else {}),
        **({} if encoded.cut is None else {"prompts_cut": encoded.cut}),
    }
