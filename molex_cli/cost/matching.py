"""`molex plan --match`: the rank or the number of experts with which an arm meets another one's budget."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molex_cli.config import command_line, overrides
from molex_cli.config.parsing import key_of
from molex_cli.errors import ConfigError, nearest

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment
    from molex_cli.methods.ledger import Plan

BUDGETS = ("parameters", "flops")
SOLVABLE = ("rank", "total", "mean")
INSTEAD = {"mean": "total", "total": "mean"}
"""What a setting replaces: an allocation has either a mean or a total."""


@dataclass(frozen=True)
class Match:
    """The settings that come nearest to a budget, and what is left over."""

    setting: str
    """As for `molex train`."""
    target: float
    reached: float

    @property
    def overrides(self) -> list[str]:
        """Return the setting with what it replaces, as for `molex train`."""
        section, _, name = self.setting.partition("=")[0].rpartition(".")
        return [self.setting, *([f"{section}.{INSTEAD[name]}=null"] if name in INSTEAD else [])]

    @property
    def left_over(self) -> float:
        """Return the reached budget less the target, as a share of the target."""
        return self.reached / self.target - 1


def reference(text: str, given: Sequence[str]) -> "Experiment":
    """Return the arm to match: `lora:rank=64` on the model and task of the given settings."""
    name, _, rest = text.partition(":")
    choices = command_line.options("method")
    if name not in choices:
        raise ConfigError(f"--match must begin with a method, got {name}; {nearest(name, choices)}")
    own = [f"method.{setting}" for setting in re.split(r",(?![^\[]*\])", rest) if setting]
    others = [each for each in given if key_of(each).split(".")[0] != "method"]
    return overrides.checked(command_line.CommandLine(overrides=[*others, f"method={name}", *own]))


def matched(
    experiment: "Experiment", target: "Plan", solve: str, by: str, plan_of: Callable[["Experiment"], "Plan"]
) -> "tuple[Match, Experiment]":
    """Return the value of `solve` whose budget is nearest to the target's, and the experiment with it.

    The counts of an allocation's rule must not be in the experiment yet: `plan_of` computes them for each value.
    Raises ConfigError where no value changes the budget.
    """
    section, layers = _section(experiment, solve), _spread(experiment, plan_of)

    def number(value: int) -> float:
        return float(f"{value / len(layers):g}") if solve == "mean" else value  # as the setting is typed

    def with_value(value: int) -> "Experiment":
        changes = {solve: number(value)} | ({INSTEAD[solve]: None} if solve in INSTEAD else {})
        return _checked(_replaced(experiment, section, changes))

    def reached(value: int) -> float:
        return budget(plan_of(with_value(value)), by)

    # A budget grows by the same amount with each rank and each expert, so two points give the line.
    start = 1 if solve == "rank" else sum(layers)
    wanted, least = budget(target, by), reached(start)
    if not wanted:
        raise ConfigError(f"--match must name an arm that adds {by}, got one that adds none")
    slope = (reached(2 * start) - least) / start
    if slope <= 0:
        raise ConfigError(f"--solve must change the {by} of method={experiment.method.name}, got {solve}")
    best = start + (wanted - least) / slope
    around = {max(1, math.floor(best)), max(1, math.ceil(best))}
    value = min(sorted(around), key=lambda each: abs(reached(each) - wanted))
    return Match(f"{section}.{solve}={number(value):g}", wanted, reached(value)), with_value(value)


def budget(plan: "Plan", by: str) -> float:
    """Return added parameters, or active FLOPs a token."""
    return float(plan.parameters["added"]) if by == "parameters" else plan.flops_per_token["active"]


def _spread(experiment: "Experiment", plan_of: Callable[["Experiment"], "Plan"]) -> list[int]:
    """Return what each layer gets of that of which a total or mean is solved for: experts, or multiples of a rank."""
    plan, update = plan_of(experiment), experiment.method.low_rank()
    if plan.rank_per_layer and update:
        return [rank // update.rank for rank in plan.rank_per_layer]
    return plan.experts_per_layer or [1] * (experiment.model.num_layers() or 1)


def _section(experiment: "Experiment", solve: str) -> str:
    """Return the section of the settings that has what is solved for."""
    settings = experiment.method.solvable
    if solve not in settings:
        raise ConfigError(f"--solve must be a setting of method={experiment.method.name}, got {solve}")
    return f"method.{settings[solve]}".rpartition(".")[0]


def _replaced(settings: Any, section: str, changes: dict[str, Any]) -> Any:
    """Return a copy of the settings with changes in one of their sections, given as `method.allocation`."""
    if not section:
        return dataclasses.replace(settings, **changes)
    name, _, rest = section.partition(".")
    return dataclasses.replace(settings, **{name: _replaced(getattr(settings, name), rest, changes)})


def _checked(experiment: "Experiment") -> "Experiment":
    from molex_cli.config.schema import problems

    if found := list(problems(experiment)):
        raise ConfigError(found)
    return experiment
