"""What one arm costs: its plan and, where that is asked for, what meets a budget and what a training step holds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from molex_cli.analysis.allocating import frozen
from molex_cli.config.schema import Experiment
from molex_cli.cost.matching import Match
from molex_cli.cost.planning import labels_of, planned
from molex_cli.methods.ledger import Plan

if TYPE_CHECKING:
    from molex_cli.training.memory.fit import Fit
    from molex_cli.training.memory.rehearsal import StepMemory


@dataclass(frozen=True)
class Memory:
    """The memory of a step, of scoring and, with a limit in bytes, what fits into it."""

    memory: "StepMemory"
    scoring_peak: int
    generates: bool
    limit: int | None
    fits: "Sequence[Fit]"

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        found: dict[str, Any] = {"memory": {**asdict(self.memory), "scoring_peak": self.scoring_peak}}
        return found if self.limit is None else found | {"fit": [asdict(fit) for fit in self.fits]}


@dataclass(frozen=True, kw_only=True)
class Estimate(Plan):
    """A plan with what it is of, and what else was asked for."""

    experiment: Experiment
    match: Match | None = None
    """What brings the arm to a budget."""
    memory: Memory | None = None

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        named = {"model": self.experiment.model.name, "method": self.experiment.method.name}
        plan = {each.name: getattr(self, each.name) for each in fields(Plan)}
        match = {"match": self.match.as_data()} if self.match else {}
        return named | plan | match | (self.memory.as_data() if self.memory else {})


def estimated(
    experiment: Experiment, match: Match | None = None, *, memory: bool = False, limit: int | None = None
) -> Estimate:
    """Return what an experiment costs, with the memory of its step if that or a limit in bytes is given."""
    labels = labels_of(experiment)
    experiment = frozen(experiment)
    plan = planned(experiment, labels)
    held = _memory(experiment, labels, limit) if memory or limit else None
    return Estimate(**vars(plan), experiment=experiment, match=match, memory=held)


def _memory(experiment: Experiment, labels: Sequence[str], limit: int | None) -> Memory:
    """Return what a step of an experiment holds; raise MolexError where it cannot be planned."""
    from molex_cli.training.memory.fit import fits
    from molex_cli.training.memory.rehearsal import Rehearsal

    own = Rehearsal(experiment, labels)
    found = [] if limit is None else list(fits(own, labels, limit))
    return Memory(own.own_step(), own.scoring_peak(), own.generates, limit, found)
