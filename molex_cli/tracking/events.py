"""The events of a run, as frozen dataclasses; sinks receive them, and none sends anything back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """Anything that happens in a run; `kind` names it in files."""

    @property
    def kind(self) -> str:
        """Return the event's name in snake case, as written to events.jsonl."""
        return type(self).__name__.lower()

    def as_dict(self) -> dict[str, Any]:
        """Return what is written of the event, as plain data."""
        written = [each.name for each in fields(self) if each.metadata.get("written", True)]
        return {"event": self.kind, **{name: getattr(self, name) for name in written}}


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The run is built and begins to train."""

    name: str
    variant: str
    seed: int
    folder: str
    total_steps: int
    total_tokens: int
    parameters: dict[str, int]
    experts_per_layer: list[int] | None
    rank_per_layer: list[int] | None
    constant: dict[str, float]
    """The best scores that the same answer to every row reaches."""
    flops_per_token: dict[str, float]
    data: dict[str, Any]
    settings: dict[str, Any]
    positive: str | None = None
    """The positive class, where a metric scores one."""
    first_step: int = 0
    """Optimizer steps that an earlier try of the run had done."""


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """One optimizer step is done."""

    step: int
    epoch: float
    loss: float
    """Task loss, mean over the rows of the effective batch."""
    balance_loss: float | None
    """Balance loss before its coefficient, mean over routed layers; None without routers."""
    learning_rate: float
    gradient_norm: float
    tokens: int
    """Real tokens of this step, padding not counted."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """A split was scored."""

    step: int
    epoch: float
    split: str
    loss: float
    scores: dict[str, float]
    seconds: float
    best: bool
    routing: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By layer: `usage`, the share of the routing each expert got, and what `routing.statistics` has besides; for MoLEx
    that of each layer as guest, mean `entropy` of the gate in nats and mean `margin` of the vote.
    Padding is counted only where the method does."""
    training_routing: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The same for the training steps since the evaluation before."""
    rows: Sequence[Mapping[str, Any]] = field(default=(), metadata={"written": False})
    """A prediction for each example, for who keeps them; too long to be written with the event."""
    is_whole: bool = field(default=True, metadata={"written": False})
    """Whether no other split is scored after the same step; the routing is on that one."""


@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    """Something the user should know; it does not stop the run."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The run ended and its record is written."""

    status: str
    folder: str
    scores: Mapping[str, Any]
    training: Mapping[str, Any]
    memory_bytes: dict[str, int]
    degenerate: list[str]
    error: str | None = None
