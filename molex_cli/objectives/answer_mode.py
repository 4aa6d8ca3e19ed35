"""How a model answers a task: by a head, by the likelihood of each answer, or by what it generates."""

from molex_cli.config.task import AnswerMode, Kind, Task
from molex_cli.errors import TaskError
from molex_cli.models.loading import family
from molex_cli.models.settings import Model
from molex_cli.models.structure import is_decoder


def answer_mode(task: Task, model: Model) -> AnswerMode:
    """Return the answer mode of a task with a model; raise TaskError where the model's family cannot answer."""
    if task.kind in (Kind.classification, Kind.regression):
        return AnswerMode.head
    can_write = is_decoder(family(model))
    chosen = AnswerMode.generate if task.kind is Kind.generation else task.answer_mode
    if chosen is AnswerMode.auto:
        chosen = AnswerMode.likelihood if can_write and task.language.prompt else AnswerMode.head
    if chosen is not AnswerMode.head and not can_write:
        way_out = "set task.answer_mode=head" if task.kind is Kind.multiple_choice else "choose model=smollm2_135m"
        raise TaskError(f"task={task.name} must be answered by a decoder, got the encoder {model.name}; {way_out}")
    if chosen is AnswerMode.likelihood and not task.language.prompt:
        raise TaskError("task.language.prompt must say what answer_mode=likelihood continues, got nothing")
    return chosen
