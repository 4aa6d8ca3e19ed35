"""The lines of a file of predictions, as they stand in JSON; no torch."""

from typing import TypedDict

from molex_cli.records.parts import Number

VALUES = "values"
"""Of a line: a value of the example for each metric that is none of molex's own, by its name."""


class Answer(TypedDict):
    """A prediction that is one of some labels, or none of them: a line of predictions-last.jsonl."""

    id: str | int
    label: str
    prediction: str | None


class Value(TypedDict):
    """A prediction that is a number."""

    id: str | int
    label: Number
    prediction: Number


class Written(TypedDict):
    """A prediction that is a text, with its references."""

    id: str | int
    label: list[str]
    prediction: str


class Outcome(TypedDict):
    """An example of lm-evaluation-harness or of a text, with its value of each metric."""

    id: str | int
    values: dict[str, Number]


PREDICTIONS = (Answer, Value, Written, Outcome)
