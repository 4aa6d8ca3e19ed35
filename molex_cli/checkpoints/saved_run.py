"""A saved run, opened again: scored on any task and split, or predicting new rows."""

import contextlib
import dataclasses
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.checkpoints.adapter import Saved
from molex_cli.checkpoints.hub.code import without_code
from molex_cli.checkpoints.hub.opening import located
from molex_cli.config.schema import Experiment
from molex_cli.config.task import AnswerMode, Kind, Task
from molex_cli.data.perturb import KINDS, perturbed
from molex_cli.data.prompts import letter
from molex_cli.data.reading import Split, read_split
from molex_cli.data.same_division import require_same_division
from molex_cli.data.unlabelled import NewRow
from molex_cli.errors import ConfigError, TaskError
from molex_cli.layers.embedding_noise import embedding_noise
from molex_cli.methods.base import Adapted
from molex_cli.methods.placement import place
from molex_cli.objectives import Objective, Predictions, build_objective, outside
from molex_cli.objectives.answer_mode import answer_mode
from molex_cli.objectives.classification import Classification
from molex_cli.objectives.splits import encoded_splits, how_scored
from molex_cli.records import file_part
from molex_cli.records.partial import remove_stale
from molex_cli.records.run_folder import adapter_of
from molex_cli.runtime import hardware


@dataclass(frozen=True)
class SavedRun:
    """An adapted model with what its adapter file holds of the run."""

    folder: Path
    file: Path
    """The adapter file."""
    experiment: Experiment
    labels: list[str]
    step: int
    adapted: Adapted
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What a saved run is scored on."""

    task: Task
    split: str = "validation"
    data_dir: str | None = None
    max_rows: int | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Label of the run to label of the task."""
    batch_size: int | None = None
    max_length: int | None = None
    """None takes the run's own, here and above."""
    seed: int = 0


def adapter_file(path: Path, which: str) -> Path:
    """Return the adapter file of a run's folder or of `hub:USER/NAME`, or the path itself if it is one."""
    return adapter_of(located(path), which)


def about(path: Path, which: str) -> Saved:
    """Return what a run's adapter file holds beside the tensors, without loading its model."""
    saved = adapter.read_about(adapter_file(path, which))
    return dataclasses.replace(saved, experiment=without_code(saved.file, saved.experiment))


def opened(path: Path, which: str, settings: hardware.Hardware, cache_dir: str | None = None) -> SavedRun:
    """Load a run from its folder or an adapter file; no setting needs to be given again.

    `cache_dir` is ours, MOLEX_CACHE if None: that of the run may be another machine's.
    """
    file = adapter_file(path, which)
    accelerator = hardware.accelerator(settings)
    saved, adapted = adapter.load(file, cache_dir)
    place(adapted, settings, accelerator)
    experiment = without_code(file, saved.experiment)
    return SavedRun(file.parent, file, experiment, saved.labels, saved.step, adapted, accelerator.device)


def scored(
    run: SavedRun,
    request: EvaluationRequest,
    split: Split,
    objective: Objective,
    perturbation: tuple[str, float] | None = None,
) -> dict[str, Any]:
    """Score the run, write scores and predictions into its folder, and return the scores."""
    task = request.task
    batch_size = request.batch_size or run.experiment.train.eval_batch_size
    predicted = _predictions(run, objective, split, request, batch_size, perturbation)
    result = {
        "task": task.name,
        "where": dict(task.where),
        "split": request.split,
        "adapter": run.file.name,
        "step": run.step,
        "perturbation": {"kind": perturbation[0], "strength": perturbation[1]} if perturbation else None,
        "seed": request.seed,
        "mapping": dict(request.mapping),
        "max_length": request.max_length or run.experiment.train.max_length,
        "scores": predicted.scores,
        "loss": predicted.loss,
        "degenerate": predicted.degenerate(),
        "rows": split.num_rows,
        "rows_used": len(split.ids),
        "fingerprint": split.fingerprint,
        "source": split.source,
        "evaluation": how_scored(task, _labels(run, task), run.adapted, objective, batch_size),
    }
    identity = [task.name, dict(task.where), request.split, run.file.name, perturbation, request.seed]
    identity += [dict(request.mapping), request.max_rows, request.max_length, batch_size, objective.answer_mode]
    return left(run, f"{file_part(task.name)}-{request.split}-{digest(identity)}", result, predicted.rows)


def left(run: SavedRun, name: str, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write an evaluation and a line for each of its examples into the run's folder; return it with what made it.

    Its file comes last and one of before goes first: a process that is killed between leaves no evaluation.
    """
    whole = {**result, "environment": records.environment(), "command": sys.argv[1:]}
    folder = subfolder(run.folder, "evaluations")
    file = folder / f"{name}.json"
    file.unlink(missing_ok=True)
    records.write_rows(folder / f"{name}-predictions.jsonl", rows)
    records.write_text(file, records.as_json(whole, indent=2) + "\n")
    return whole


def prepared(run: SavedRun | Saved, request: EvaluationRequest) -> tuple[Split, Objective]:
    """Return the rows of a request and the objective that scores them; the model need not be loaded."""
    task = request.task
    require_same_division(run.experiment, task, run.file)
    labels = _labels(run, task)
    split = read_split(task, request.split, request.data_dir, labels, request.max_rows)
    outside.require_working(task, split.labels)
    return split, _objective(run, task, labels, request.mapping)


def objective_of(run: SavedRun | Saved, request: EvaluationRequest) -> Objective:
    """Return the objective that scores a run on the task of a request."""
    return _objective(run, request.task, _labels(run, request.task), request.mapping)


def _labels(run: SavedRun | Saved, task: Task) -> list[str]:
    """Return the labels of a task that the run is scored on: its own are those that the run was trained on."""
    own = task.name in {each.name for each in (run.experiment.task, *run.experiment.stages.values())}
    return list(task.labels or (run.labels if own else []))


def _objective(run: SavedRun | Saved, task: Task, labels: Sequence[str], mapping: Mapping[str, str]) -> Objective:
    """Return the objective that scores this model on a task; raise TaskError where none can."""
    own = run.experiment.task
    model = run.experiment.model
    chosen, trained = answer_mode(task, model), answer_mode(own, model)
    same_head = (chosen is AnswerMode.head) == (trained is AnswerMode.head)
    if not same_head or (chosen is AnswerMode.head and task.kind is not own.kind):
        raise TaskError(
            f"task={task.name} must be of the kind that the run was trained on, got {task.kind.name} for a run on "
            f"{own.name} ({own.kind.name})"
        )
    objective = build_objective(task, model, labels)
    if task.kind is Kind.classification and isinstance(objective, Classification):
        objective.label_of_output = _label_of_output(run.labels, labels, mapping)
    elif mapping:
        raise ConfigError(f"map must be left out where no labels are predicted, got {dict(mapping)}")
    return objective


def predictions(run: SavedRun, request: EvaluationRequest, split: Split, objective: Objective) -> Predictions:
    """Return the run's predictions of these rows, and write nothing."""
    return _predictions(
        run, objective, split, request, request.batch_size or run.experiment.train.eval_batch_size, None
    )


def digest(content: Any) -> str:
    """Return eight letters that distinguish one request from another in a file's name."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def subfolder(folder: Path, name: str) -> Path:
    """Return a folder inside the run's, made if need be and without what killed processes left there."""
    path = folder / name
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise records.unwritable(str(path), error, "a run must have a folder") from None
    remove_stale(path)
    return path


def predict(run: SavedRun, rows: Sequence[NewRow]) -> list[dict[str, Any]]:
    """Return an answer to each row: the prediction with the probability of every label, or why the line has none."""
    task = run.experiment.task
    filled = [row for row in rows if row.texts]
    dummy: Any = {Kind.regression: 0.0, Kind.generation: ("",)}.get(task.kind, 0)
    choices = [row.choices for row in filled]
    split = Split(
        ids=[str(i) for i in range(len(filled))],
        texts=[row.texts for row in filled],
        labels=[dummy] * len(filled),
        choices=choices if any(choices) else [],
    )
    predicted = iter(_unscored(run, split) if filled else [])
    return [{**row.number, **(_answer(run, next(predicted)) if row.texts else {"error": row.error})} for row in rows]


def _unscored(run: SavedRun, split: Split) -> list[dict[str, Any]]:
    """Return a prediction for each row; what is typed is not kept in the cache of tokens."""
    task = run.experiment.task
    objective = _objective(run, task, run.labels, {})
    size = run.experiment.train.eval_batch_size
    with tempfile.TemporaryDirectory() as folder:
        passing = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, cache_dir=folder))
        return _predictions(passing, objective, split, EvaluationRequest(task=task), size, None, scored_by=()).rows


def _answer(run: SavedRun, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a prediction as a reader wants it: with the probability of each label or choice by its name."""
    found = {key: value for key, value in row.items() if key not in ("id", "label")}
    values = row.get("logits", row.get("log_likelihoods"))
    if values is None or run.experiment.task.kind is Kind.regression:
        return found
    names = run.labels or [letter(i) for i in range(len(values))]
    shares = torch.tensor(values, dtype=torch.float64).softmax(0).tolist()
    probabilities = {name: round(share, 6) for name, share in zip(names, shares, strict=True)}
    return {"prediction": found.pop("prediction"), "probabilities": probabilities, **found}


def _predictions(
    run: SavedRun,
    objective: Objective,
    split: Split,
    request: EvaluationRequest,
    batch_size: int,
    perturbation: tuple[str, float] | None,
    *,
    scored_by: Sequence[str] | None = None,
) -> Predictions:
    tokenizer, seed = run.adapted.backbone.tokenizer, request.seed
    noise: Any = contextlib.nullcontext()
    if perturbation is not None and perturbation[0] in KINDS:
        split = perturbed(split, *perturbation, seed)
    elif perturbation is not None:
        if not 0 <= perturbation[1] < math.inf:
            raise ConfigError(f"noise must be lengths from 0, got {perturbation[1]}")
        noise = embedding_noise(run.adapted.model, perturbation[1], seed, tokenizer.pad_token_id)
    changed: Any = {"max_length": request.max_length} if request.max_length else {}
    train = dataclasses.replace(run.experiment.train, **changed)
    experiment = dataclasses.replace(run.experiment, task=request.task, train=train)
    encoded = encoded_splits(experiment, run.adapted.backbone, objective, {"validation": split})["validation"]
    with noise:
        if scored_by is not None:
            return objective.predictions(run.adapted, encoded, scored_by, batch_size, run.device)
        return outside.predictions(objective, run.adapted, encoded, request.task, batch_size, run.device)


def _label_of_output(trained: Sequence[str], labels: Sequence[str], mapping: Mapping[str, str]) -> list[int] | None:
    """Return for each label of the run the index of the task's label that it means; None where they are equal."""
    if list(trained) == list(labels) and not mapping:
        return None
    meant = {label: mapping.get(label, label if not mapping else "") for label in trained}
    wrong = [label for label, other in meant.items() if other not in labels]
    strange = [label for label in mapping if label not in trained]
    if wrong or strange:
        example = ", ".join(f"{label}: {labels[min(i, len(labels) - 1)]}" for i, label in enumerate(trained))
        raise ConfigError(
            f"map must give a label of {', '.join(labels)} for each label of the run, got "
            f"{f'{strange[0]}, which is none of its labels' if strange else f'none for {wrong[0]}'}; "
            f"for example 'map={{{example}}}'"
        )
    return [list(labels).index(meant[label]) for label in trained]
