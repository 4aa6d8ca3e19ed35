"""The splits of a task as tokens, and what a record keeps of them and of how they are scored."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from molex_cli.config import schema
from molex_cli.config.task import AnswerMode, Task
from molex_cli.config.task_metrics import inside, outside
from molex_cli.data import reading
from molex_cli.data.encoding import Encoded
from molex_cli.data.prompts import AnswersTooLong
from molex_cli.errors import ConfigError, DataError
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import implementations, not_computed
from molex_cli.models.loading import longest_input
from molex_cli.models.structure import Backbone
from molex_cli.objectives.base import Objective
from molex_cli.objectives.outside import described
from molex_cli.records.parts import Evaluation
from molex_cli.runtime.paths import default_cache_dir


def encoded_splits(
    experiment: schema.Experiment, backbone: Backbone, objective: Objective, splits: dict[str, reading.Split]
) -> dict[str, Encoded]:
    """Return the splits as tokens; raise ConfigError with every length that does not fit. No weights are needed."""
    most, written = longest_input(backbone), _written(experiment, objective)
    problems = list(position_problems(experiment, most, written))
    cache_dir = Path(experiment.cache_dir) if experiment.cache_dir else default_cache_dir()
    encoded: dict[str, Encoded] = {}
    for name, split in splits.items():
        try:
            encoded[name] = objective.encode(
                split, backbone.tokenizer, experiment.train.max_length, cache_dir, training=name == "train"
            )
        except AnswersTooLong as error:
            problems.append(error.within(None if most is None else most - written))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    return encoded


def _written(experiment: schema.Experiment, objective: Objective) -> int:
    """Return how many tokens are generated after a prompt."""
    return experiment.task.language.max_new_tokens if objective.answer_mode == AnswerMode.generate.name else 0


def require_positions(experiment: schema.Experiment, backbone: Backbone, objective: Objective) -> None:
    """Raise ConfigError where the model's positions do not reach."""
    if problems := list(position_problems(experiment, longest_input(backbone), _written(experiment, objective))):
        raise ConfigError(problems)


def position_problems(experiment: schema.Experiment, most: int | None, written: int) -> Iterator[str]:
    """Yield where the model's positions do not reach."""
    max_length = experiment.train.max_length
    if most is None or max_length + written <= most:
        return
    way_out = f"set train.max_length={most - written}" if written < most else "lower task.language.max_new_tokens"
    if max_length > most:
        yield f"train.max_length must fit {experiment.model.name}, at most {most}, got {max_length}; {way_out}"
    else:
        yield (
            f"train.max_length and task.language.max_new_tokens must fit {experiment.model.name} together, at most "
            f"{most}, got {max_length} and {written}; {way_out}"
        )


def notes(data: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what a user should know of rows that a record tells of: how a file was divided, rows left out."""
    divided = dict.fromkeys(about["division"] for about in data.values() if about.get("division"))
    left_out = [
        f"{about['rows_too_long']:,} of {about['rows_used'] + about['rows_too_long']:,} rows of {split} are left out: "
        "train.max_length is too short for their answers"
        for split, about in data.items()
        if about.get("rows_too_long")
    ]
    return [*divided, *left_out]


def how_scored(
    task: Task, labels: Sequence[str], adapted: Adapted, objective: Objective, batch_size: int
) -> Evaluation:
    """Return the answer mode, what computes each score or why it is not computed, and what the scores depend on."""
    names = inside(task)
    others = {"metrics": described(task)} if outside(task) else {}
    return {
        "labels": list(labels),
        "positive": task.positive_label(labels),
        "answer_mode": objective.answer_mode,
        "implementations": implementations(names),
        "not_computed": not_computed(names),
        **cast(Evaluation, others),
        "batch_size": batch_size,
        "order": "as in the split" if adapted.batch_dependent else "by length",
        "depends_on_batch": adapted.batch_dependent or None,
    }


def about(split: reading.Split, encoded: Encoded) -> dict[str, Any]:
    """Return what the record keeps of a split."""
    return {
        **split.about(),
        "rows_used": len(encoded.ids),
        "tokens": int(encoded.offsets[-1]),
        **({} if encoded.cut is None else {"prompts_cut": encoded.cut}),
        **({"rows_too_long": encoded.left_out} if encoded.left_out else {}),
    }
