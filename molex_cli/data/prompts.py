"""Rows for language models: prompts, the answers that a model may give, and both as tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molex_cli.config.task import AnswerMode, Kind, Task
from molex_cli.data.encoding import NONE, Encoded
from molex_cli.data.reading import Split
from molex_cli.errors import DataError

# A frame around an instruction, as instruction-tuned models know it.
FRAME = "A task follows. Reply with what it asks for.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
NOTHING = "N/A"
FEW = 0.01  # less than this share of the training rows is left out where answers are too long


@dataclass(frozen=True)
class Question:
    """A prompt, and the answers that the model may give, in the order of the choices."""

    prompt: str
    answers: tuple[str, ...]
    right: int = 0


def letter(index: int) -> str:
    """Return the name of a choice: A, B, C, ..."""
    return chr(ord("A") + index)


def questions(task: Task, split: Split, answer_mode: AnswerMode) -> list[Question]:
    """Return each row as a question in the answer mode; kind=generation has one answer, the first that was written."""
    rows = zip(split.texts, split.choices or [()] * len(split.ids), split.labels, strict=True)
    return [_question(task, answer_mode, *row) for row in rows]


def _question(
    task: Task, answer_mode: AnswerMode, texts: Sequence[str], choices: Sequence[str], target: Any
) -> Question:
    named = {column: text.strip() or NOTHING for column, text in zip(task.columns, texts, strict=True)}
    named["options"] = " ".join(f"({letter(i)}) {choice}" for i, choice in enumerate(choices))
    language = task.language
    if task.kind is Kind.generation:
        return Question(language.prompt.format(**named), (f" {target[0].strip()}",))
    if answer_mode is AnswerMode.generate:
        names = [letter(i) for i in range(len(choices))] if task.choices else choices
        answers = tuple(language.answer.format(answer=name) for name in names)
        return Question(FRAME.format(instruction=language.instruction.format(**named)), answers, target)
    return Question(language.prompt.format(**named), tuple(f" {choice}" for choice in choices), target)


def encode_questions(
    questions: Sequence[Question],
    split: Split,
    tokenizer: Any,
    max_length: int,
    *,
    every_answer: bool,
    end: bool,
    may_leave_out: bool = False,
) -> Encoded:
    """Return a row of prompt and answer for the right answer, or for every answer; `starts` is where answers begin.

    `end` adds the token that ends a text. Rows whose answer is too long for `max_length` are an error, unless they are
    few and may be left out.
    """
    prompts = _ids(tokenizer, [question.prompt for question in questions], True)
    answers = iter(_ids(tokenizer, [answer for question in questions for answer in question.answers], False))
    ending = [tokenizer.eos_token_id] if end else []
    rows: list[list[int]] = []
    starts: list[int] = []
    sizes: list[int] = []
    kept: list[int] = []
    too_long: dict[str, int] = {}
    cut = 0
    for index, (question, prompt) in enumerate(zip(questions, prompts, strict=True)):
        tails = [next(answers) + ending for _ in question.answers]
        needed = _needed(prompt, tails)
        if needed > max_length:
            too_long[split.ids[index]] = needed
            continue
        head = shortened(prompt, _room(tails, max_length))
        kept.append(index)
        cut += len(head) < len(prompt)
        chosen = tails if every_answer else [tails[question.right]]
        rows += [head + tail for tail in chosen]
        starts += [len(head)] * len(chosen)
        sizes.append(len(chosen))
    if len(too_long) >= (FEW * len(split.ids) if may_leave_out else 1):
        raise _too_long(too_long, len(split.ids), max_length)
    return Encoded(
        ids=[split.ids[index] for index in kept],
        labels=[split.labels[index] for index in kept],
        tokens=np.array([token for row in rows for token in row], dtype=np.int32),
        types=np.array([], dtype=np.int8),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        starts=np.array(starts, dtype=np.int64),
        groups=np.concatenate([[0], np.cumsum(sizes)]) if every_answer else NONE,
        cut=cut,
        left_out=len(too_long),
    )


def _room(answers: Sequence[list[int]], max_length: int) -> int:
    """Return the tokens that are left for a prompt, whichever of the answers is right.

    Room is kept for the longest answer of the row, or half of `max_length` where only one is known.
    """
    return max_length - (max(map(len, answers)) if len(answers) > 1 else max_length // 2)


def _needed(prompt: list[int], answers: Sequence[list[int]]) -> int:
    """Return the least `max_length` at which a row fits, its prompt cut as far as `_room` allows."""
    longest = max(map(len, answers))
    return longest + 1 if len(answers) > 1 else longest + min(len(prompt), longest)


def _too_long(needed: dict[str, int], rows: int, max_length: int) -> "AnswersTooLong":
    worst = max(needed, key=lambda example_id: needed[example_id])
    split = worst.partition(":")[0]
    problem = (
        f"train.max_length must fit every answer beside its prompt, got {max_length}, too short for {len(needed):,} of "
        f"{rows:,} rows of {split}"
    )
    return AnswersTooLong(problem, needed[worst], worst)


class AnswersTooLong(DataError):
    """Rows that do not fit: how many, and what would fit them all."""

    def __init__(self, problem: str, fitting: int, example_id: str) -> None:
        self.problem, self.fitting, self.example_id = problem, fitting, example_id
        super().__init__(f"{problem}; set train.max_length={fitting}, which fits the longest ({example_id})")

    def within(self, most: int | None) -> str:
        """Return the message for a model that takes so many tokens at most."""
        if most is None or self.fitting <= most:
            return str(self)
        return (
            f"{self.problem}; the longest ({self.example_id}) needs {self.fitting}, and this model takes at most "
            f"{most}: choose another, or shorten the row"
        )


def shortened(prompt: list[int], room: int) -> list[int]:
    """Return the prompt, without its middle where it is longer than the room."""
    if len(prompt) <= room or room < 1:
        return prompt
    return prompt[: room // 2] + prompt[len(prompt) - (room - room // 2) :]


def _ids(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    """Return the tokens of texts, with what the tokenizer puts before a text but nothing that would end it."""
    rows = tokenizer(list(texts), add_special_tokens=special)["input_ids"] if texts else []
    return [without_end(tokenizer, ids) for ids in rows] if special else rows


def without_end(tokenizer: Any, ids: list[int]) -> list[int]:
    """Return the tokens of a text without the one that the tokenizer ends it with, if it does."""
    return ids[:-1] if ids and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id) else ids
