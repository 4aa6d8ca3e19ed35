"""The lines of events.jsonl, as far as others than their writer read them; no torch."""

from typing import Any, Literal, NotRequired, TypedDict

from molex_cli.records.parts import Count, Number


class EvaluatedLine(TypedDict):
    """The line of events.jsonl that says that a split was scored."""

    event: Literal["evaluated"]
    step: Count
    scores: dict[str, Number | None]
    split: NotRequired[str]


class StepLine(TypedDict):
    """The line of events.jsonl on a step of training."""

    event: Literal["step"]
    step: Count
    loss: Number


class EventLine(TypedDict):
    """Any line of events.jsonl."""

    event: str
    step: NotRequired[Count]


class ProgressLine(TypedDict):
    """What tells how far a run is, of any line of events.jsonl."""

    event: str
    split: NotRequired[str]
    step: NotRequired[Count]
    total_steps: NotRequired[Count]
    first_step: NotRequired[Count]
    loss: NotRequired[float | None]
    seconds: NotRequired[float | None]
    scores: NotRequired[dict[str, Any]]
    positive: NotRequired[str | None]
