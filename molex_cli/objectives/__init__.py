"""How a model is trained on a task and scored: one file for each way; importing this package registers every one."""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from molex_cli.config.task import AnswerMode, Task
from molex_cli.errors import TaskError, nearest
from molex_cli.models.settings import Model
from molex_cli.objectives.answer_mode import answer_mode
from molex_cli.objectives.base import OBJECTIVES, Batch, Objective, Predictions, Registered

__all__ = ["Batch", "Objective", "Predictions", "build_objective", "head_outputs"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def build_objective(task: Task, model: Model, labels: Sequence[str], label_smoothing: float = 0.0) -> Objective:
    """Return the objective of a task with a model; raise TaskError where there is none."""
    mode = answer_mode(task, model)
    registered = _registered(task, mode)
    built: Any = registered.build(task, mode, labels)
    if label_smoothing and not registered.smooths_labels:
        raise TaskError(
            f"train.label_smoothing must be 0 for task.objective={registered.name}, got {label_smoothing}: its loss "
            "does not take one; leave it out"
        )
    if registered.smooths_labels:
        built.label_smoothing = label_smoothing
    return built


def head_outputs(task: Task, model: Model, labels: Sequence[str]) -> int | None:
    """Return the outputs of the head that a task needs; None is a language model, which has none."""
    return _registered(task, answer_mode(task, model)).head_outputs(task, labels)


def _registered(task: Task, mode: AnswerMode) -> Registered:
    serving = {name: each for name, each in OBJECTIVES.items() if each.serves(task.kind, mode)}
    if task.objective is None:
        return next(each for each in serving.values() if each.is_standard)
    if task.objective not in serving:
        raise TaskError(
            f"task.objective must serve kind={task.kind.name} by {mode.name}, got {task.objective}; "
            f"{nearest(task.objective, serving)}"
        )
    return serving[task.objective]
