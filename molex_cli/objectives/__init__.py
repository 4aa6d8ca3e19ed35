"""How a model is trained on a task and scored: one file for each way."""

from collections.abc import Sequence

from molex_cli.config.task import AnswerMode, Kind, Task
from molex_cli.errors import TaskError
from molex_cli.objectives.base import Batch, Objective, Predictions

__all__ = ["Batch", "Objective", "Predictions", "answer_mode_of", "build_objective", "head_outputs"]


def answer_mode_of(task: Task, is_decoder: bool, model: str) -> AnswerMode:
    """Return how a model of this family is asked; raise TaskError where it cannot answer."""
    if task.kind in (Kind.classification, Kind.regression):
        return AnswerMode.head
    chosen = task.answer_mode
    if task.kind is Kind.generation:
        chosen = AnswerMode.generate
    elif chosen is AnswerMode.auto:
        chosen = AnswerMode.likelihood if is_decoder and task.language.prompt else AnswerMode.head
    if chosen is not AnswerMode.head and not is_decoder:
        way_out = "set task.answer_mode=head" if task.kind is Kind.multiple_choice else "choose model=smollm2_135m"
        raise TaskError(f"task={task.name} must be answered by a decoder, got the encoder {model}; {way_out}")
    if chosen is AnswerMode.likelihood and not task.language.prompt:
        raise TaskError("task.language.prompt must say what answer_mode=likelihood continues, got nothing")
    return chosen


def head_outputs(task: Task, chosen: AnswerMode, labels: Sequence[str]) -> int | None:
    """Return the outputs of the head: one for each label, one for a number or a choice; None is a language model."""
    if chosen is not AnswerMode.head:
        return None
    return len(labels) if task.kind is Kind.classification else 1


def build_objective(task: Task, chosen: AnswerMode, labels: Sequence[str]) -> Objective:
    """Return the objective of a task in an answer mode."""
    if chosen is not AnswerMode.head:
        from molex_cli.objectives.causal_lm import Language

        return Language(task, chosen, labels)
    if task.kind is Kind.multiple_choice:
        from molex_cli.objectives.multiple_choice import Choices

        return Choices()
    from molex_cli.objectives.classification import Labels

    return Labels(labels)
