"""A saved run, opened again: scored on any task and split, or asked about new rows."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from molex_cli import checkpoint, hardware, objectives, records
from molex_cli.backbones.sources import default_cache_dir
from molex_cli.data.perturb import KINDS, perturbed
from molex_cli.data.reading import Split, read_split
from molex_cli.errors import CheckpointError, ConfigError, TaskError
from molex_cli.layers.noise import embedding_noise
from molex_cli.methods.base import Adapted
from molex_cli.objectives import Answers, Objective
from molex_cli.objectives.labels import Labels
from molex_cli.schema import Experiment
from molex_cli.tasks import Kind, Protocol, Task

NOISE = "noise"


@dataclass(frozen=True)
class SavedRun:
    """An adapted model with what its file says of it."""

    folder: Path
    experiment: Experiment
    labels: list[str]
    step: int
    adapted: Adapted
    device: torch.device

    def objective(self, task: Task, labels: Sequence[str], mapping: Mapping[str, str]) -> Objective:
        """Return how this model is asked a task's questions; raise TaskError where it cannot be."""
        own = self.experiment.task
        chosen = objectives.protocol(task, self.adapted.backbone.is_decoder, self.experiment.model.name)
        trained = checkpoint.asked(self.experiment)
        same_head = (chosen is Protocol.head) == (trained is Protocol.head)
        if not same_head or (chosen is Protocol.head and task.kind is not own.kind):
            raise TaskError(
                f"task={task.name} must be of the kind that the run was trained on, got {task.kind.name} for a run on "
                f"{own.name} ({own.kind.name})"
            )
        if task.kind is Kind.classify:
            return Labels(labels, _places(self.labels, labels, mapping))
        if mapping:
            raise ConfigError(f"map must be left out where no labels are predicted, got {dict(mapping)}")
        return objectives.objective(task, chosen, labels)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a saved run is scored on."""

    task: Task
    split: str = "validation"
    data_dir: str | None = None
    max_rows: int | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Label of the run to label of the task."""
    batch_size: int | None = None
    """None takes the run's own."""
    seed: int = 0


def opened(path: Path, which: str, settings: hardware.Hardware) -> SavedRun:
    """Load a run from its folder or an adapter file; no setting needs to be given again."""
    file = path / f"adapter-{which}.safetensors" if path.is_dir() else path
    if which not in ("last", "best"):
        raise ConfigError(f"which must be last or best, got {which}")
    if not path.exists():
        raise CheckpointError(f"run must be the folder of a run or an adapter file, got no such path: {path}")
    device = hardware.accelerator(settings).device
    saved, adapted = checkpoint.load(file)
    adapted.model.to(device)
    return SavedRun(file.parent, saved.experiment, saved.labels, saved.step, adapted, device)


def scored(run: SavedRun, question: Question, perturbation: tuple[str, float] | None = None) -> dict[str, Any]:
    """Score the run, write scores and predictions into its folder, and return the scores."""
    task = question.task
    labels = task.labels or (run.labels if task.name == run.experiment.task.name else [])
    split = read_split(task, question.split, question.data_dir, labels, question.max_rows)
    goal = run.objective(task, labels, question.mapping)
    batch_size = question.batch_size or run.experiment.train.eval_batch_size
    answers = _answers(run, goal, split, task.metrics, batch_size, perturbation, question.seed)
    result = {
        "task": task.name,
        "split": question.split,
        "perturbation": {"kind": perturbation[0], "strength": perturbation[1]} if perturbation else None,
        "seed": question.seed,
        "scores": answers.scores,
        "loss": answers.loss,
        "degenerate": list(answers.reasons),
        "rows": split.num_rows,
        "rows_used": len(split.ids),
        "fingerprint": split.fingerprint,
        "source": split.source,
        "mapping": dict(question.mapping),
        "step": run.step,
        "evaluation": {
            "protocol": goal.protocol,
            "batch_size": batch_size,
            "depends_on_batch": run.adapted.batch_dependent or None,
        },
        "environment": records.environment(),
    }
    folder = run.folder / "evaluations"
    folder.mkdir(exist_ok=True)
    name = "-".join([task.name.replace("/", "-"), question.split, *(map(str, perturbation) if perturbation else ())])
    records.write_text(folder / f"{name}.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    records.write_rows(folder / f"{name}-predictions.jsonl", answers.rows)
    return result


def asked(run: SavedRun, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the run says of rows that have the columns (and choices) of its task."""
    task = run.experiment.task
    dummy: Any = {Kind.regress: 0.0, Kind.write: ("",)}.get(task.kind, 0)
    texts, choices = [], []
    for number, row in enumerate(rows, start=1):
        missing = [name for name in (*task.columns, *([task.choices] if task.choices else [])) if name not in row]
        if missing:
            raise ConfigError(f"row {number} must have {', '.join(task.columns)}, got no {missing[0]}")
        texts.append(tuple(str(row[column]) for column in task.columns))
        choices.append(tuple(row[task.choices]) if task.choices else ())
    if task.kind is Kind.choose and not task.choices:
        choices = [tuple(label.replace("_", " ") for label in run.labels)] * len(texts)
    split = Split([str(i) for i in range(len(texts))], texts, [dummy] * len(texts), choices if any(choices) else [])
    goal = run.objective(task, run.labels, {})
    answers = _answers(run, goal, split, [], run.experiment.train.eval_batch_size, None, 0)
    return [{key: value for key, value in row.items() if key not in ("id", "label")} for row in answers.rows]


def _answers(
    run: SavedRun,
    goal: Objective,
    split: Split,
    names: Sequence[str],
    batch_size: int,
    perturbation: tuple[str, float] | None,
    seed: int,
) -> Answers:
    tokenizer = run.adapted.backbone.tokenizer
    noise: Any = contextlib.nullcontext()
    if perturbation is not None and perturbation[0] in KINDS:
        split = perturbed(split, *perturbation, seed)
    elif perturbation is not None:
        if perturbation[1] < 0:
            raise ConfigError(f"noise must be lengths from 0, got {perturbation[1]}")
        noise = embedding_noise(run.adapted.model, perturbation[1], seed, tokenizer.pad_token_id)
    cache = Path(run.experiment.cache_dir) if run.experiment.cache_dir else default_cache_dir()
    encoded = goal.encode(split, tokenizer, run.experiment.train.max_length, cache, training=False)
    with noise:
        return goal.answers(run.adapted, encoded, names, batch_size, run.device)


def _places(trained: Sequence[str], labels: Sequence[str], mapping: Mapping[str, str]) -> list[int] | None:
    """Return for each label of the run the place of the task's label that it stands for; None where they are equal."""
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
