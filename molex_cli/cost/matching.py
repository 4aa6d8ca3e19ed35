"""`molex plan --match`: the rank or the number of experts with which an arm meets another one's budget."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError, nearest

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment
    from molex_cli.methods.ledger import Plan

BUDGETS = ("parameters", "flops")
SOLVABLE = ("rank", "total", "mean")
# What a setting replaces: a mean replaces a total, and the other way round.
INSTEAD = {
    "method.allocation.mean": {"method.allocation.total=": "method.allocation.total=null"},
    "method.allocation.total": {"method.allocation.mean=": "method.allocation.mean=null"},
}


@dataclass(frozen=True)
class Match:
    """The settings that come nearest to a budget, and what is left over."""

    setting: str
    """As for `molex train`."""
    target: float
    reached: float

    @property
    def left_over(self) -> float:
        """Return the reached budget less the target, as a share of the target."""
        return self.reached / self.target - 1


def reference(text: str, given: Sequence[str]) -> list[str]:
    """Return the settings of the arm to match: `lora:rank=64` on the model and task of the given settings."""
    name, _, rest = text.partition(":")
    choices = command_line.options("method")
    if name not in choices:
        raise ConfigError(f"--match must begin with a method, got {name}; {nearest(name, choices)}")
    own = [f"method.{setting}" for setting in re.split(r",(?![^\[]*\])", rest) if setting]
    others = [each for each in given if not each.startswith(("method=", "method."))]
    return [*others, f"method={name}", *own]


def matched(
    given: Sequence[str], target: "Plan", solve: str, by: str, plan_of: Callable[["Experiment"], "Plan"]
) -> Match:
    """Return the value of `solve` whose budget is nearest to the target's; raise ConfigError where there is none."""
    experiment = overrides.checked(command_line.CommandLine(overrides=list(given)))
    key, plan = _key(experiment, solve), plan_of(experiment)
    layers = plan.experts_per_layer or [1]
    settings = [each for each in given if not each.startswith((f"{key}=", *INSTEAD.get(key, {})))]
    settings += INSTEAD.get(key, {}).values()

    def setting(value: int) -> str:
        return f"{key}={value / len(layers) if solve == 'mean' else value:g}"

    def reached(value: int) -> float:
        tried = overrides.checked(command_line.CommandLine(overrides=[*settings, setting(value)]))
        return budget(plan_of(tried), by)

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
    return Match(setting(value), wanted, reached(value))


def budget(plan: "Plan", by: str) -> float:
    """Return added parameters, or active FLOPs a token."""
    return float(plan.parameters["added"]) if by == "parameters" else plan.flops_per_token["active"]


def _key(experiment: "Experiment", solve: str) -> str:
    method = experiment.method
    if solve not in method.solvable:
        raise ConfigError(f"--solve must be a setting of method={method.name}, got {solve}")
    return f"method.{method.solvable[solve]}"
