"""How a model is trained on a task and scored: one file for each way."""

from collections.abc import Sequence

from molex_cli.config.task import Kind, Protocol, Task
from molex_cli.errors import TaskError
from molex_cli.objectives.base import Answers, Batch, Objective

__all__ = ["Answers", "Batch", "Objective", "head_outputs", "objective", "protocol"]


def protocol(task: Task, is_decoder: bool, model: str) -> Protocol:
    """Return how a model of this family is asked; raise TaskError where it cannot answer."""
    if task.kind in (Kind.classify, Kind.regress):
        return Protocol.head
    chosen = task.protocol
    if task.kind is Kind.write:
        chosen = Protocol.generate
    elif chosen is Protocol.auto:
        chosen = Protocol.likelihood if is_decoder and task.language.prompt else Protocol.head
    if chosen is not Protocol.head and not is_decoder:
        way_out = "set task.protocol=head" if task.kind is Kind.choose else "choose model=smollm2_135m"
        raise TaskError(f"task={task.name} must be answered by a decoder, got the encoder {model}; {way_out}")
    if chosen is Protocol.likelihood and not task.language.prompt:
        raise TaskError("task.language.prompt must say what protocol=likelihood continues, got nothing")
    return chosen


def head_outputs(task: Task, chosen: Protocol, labels: Sequence[str]) -> int | None:
    """Return the outputs of the head: one for each label, one for a number or a choice; None is a language model."""
    if chosen is not Protocol.head:
        return None
    return len(labels) if task.kind is Kind.classify else 1


def objective(task: Task, chosen: Protocol, labels: Sequence[str]) -> Objective:
    """Return the objective of a task under a protocol."""
    if chosen is not Protocol.head:
        from molex_cli.objectives.causal_lm import Language

        return Language(task, chosen, labels)
    if task.kind is Kind.choose:
        from molex_cli.objectives.multiple_choice import Choices

        return Choices()
    from molex_cli.objectives.classification import Labels

    return Labels(labels)
