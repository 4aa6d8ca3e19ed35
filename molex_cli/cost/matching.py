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
    alpha: str | None = None
    """What goes with another rank, so that alpha over rank stays; None where nothing does."""
    scales: tuple[float, float] = (1.0, 1.0)
    """Alpha over rank before and after, the mean over layers."""
    target_scale: float | None = None
    """That of the arm whose budget is met; None where it has none."""

    @property
    def overrides(self) -> list[str]:
        """Return the setting with what it replaces and what goes with it, as for `molex train`."""
        section, _, name = self.setting.partition("=")[0].rpartition(".")
        replaced = [f"{section}.{INSTEAD[name]}=null"] if name in INSTEAD else []
        return [self.setting, *replaced, *([self.alpha] if self.alpha else [])]

    def as_data(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {**vars(self), "overrides": self.overrides, "left_over": self.left_over}

    @property
    def left_over(self) -> float:
        """Return the reached budget less the target, as a share of the target."""
        return self.reached / self.target - 1

    @property
    def off(self) -> str:
        """Return how far the reached budget is off, in words."""
        return "exactly" if self.reached == self.target else f"{100 * self.left_over:+.2g} %"

    def told(self, by: str, of: str) -> str:
        """Return the settings, the budget that they reach, the one of the arm `of`, and what becomes of alpha."""
        if self.reached == self.target:
            reached = f"{self.reached:,.0f} {by}, exactly those of {of}"
        else:
            reached = f"nearest possible: {self.reached:,.0f} {by}, {self.off} (for {self.target:,.0f} of {of})"
        is_other = self.target_scale is not None and not math.isclose(self.target_scale, self.scales[1], rel_tol=1e-9)
        beside = f"{self.target_scale:.3g} in {of}" if self.scale and is_other else ""
        scale = ", ".join(filter(None, [self.scale, beside]))
        return "; ".join(filter(None, [f"{' '.join(self.overrides)}  {reached}", scale]))

    @property
    def scale(self) -> str:
        """Return what becomes of alpha over rank, in words; nothing where no rank changes."""
        before, after = self.scales
        if not math.isclose(before, after, rel_tol=1e-9):
            why = ", as alpha was set" if self.setting.partition("=")[0].endswith(".rank") else ""
            return f"alpha over rank changes from {before:.3g} to {after:.3g}{why}"
        return f"alpha over rank stays {after:.3g}" if self.alpha else ""


def reference(text: str, line: command_line.CommandLine) -> "Experiment":
    """Return the arm to match: `lora:rank=64` on the model and task of a line for one run."""
    name, _, rest = text.partition(":")
    choices = command_line.options("method", line.folders)
    if name not in choices:
        raise ConfigError(f"--match must begin with a method, got {name}; {nearest(name, choices)}")
    own = [f"method.{setting}" for setting in re.split(r",(?![^\[]*\])", rest) if setting]
    others = [each for each in line.overrides if key_of(each).split(".")[0] != "method"]
    return overrides.checked(dataclasses.replace(line, overrides=[*others, f"method={name}", *own]))


def matched(
    experiment: "Experiment",
    target: "Plan",
    solve: str,
    by: str,
    plan_of: Callable[["Experiment"], "Plan"],
    given: Sequence[str] = (),
) -> "tuple[Match, Experiment]":
    """Return the value of `solve` whose budget is nearest to the target's, and the experiment with it.

    Another rank gets another alpha, so that the update keeps its factor alpha over rank, unless alpha is among the
    settings that were `given`. The counts of an allocation's rule must not be in the experiment yet: `plan_of` computes
    them for each value. Raises ConfigError where no value changes the budget.
    """
    section, layers = _section(experiment, solve), _spread(experiment, plan_of)
    update = experiment.method.low_rank()
    is_scaled = solve == "rank" and update is not None and f"{section}.alpha" not in map(key_of, given)

    def number(value: int) -> float:
        return float(f"{value / len(layers):g}") if solve == "mean" else value  # as the setting is typed

    def with_value(value: int) -> "Experiment":
        changes = {solve: number(value)} | ({INSTEAD[solve]: None} if solve in INSTEAD else {})
        changes |= {"alpha": _alpha(experiment, value)} if is_scaled else {}
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
    found = with_value(value)
    scales = scale_of(experiment, plan_of(experiment)), scale_of(found, plan_of(found))
    is_other = is_scaled and update is not None and value != update.rank
    alpha = f"{section}.alpha={_alpha(experiment, value):.12g}" if is_other else None
    before, after = (1.0 if scale is None else scale for scale in scales)
    return Match(f"{section}.{solve}={number(value):g}", wanted, reached(value), alpha, (before, after)), found


def budget(plan: "Plan", by: str) -> float:
    """Return added parameters, or active FLOPs a token."""
    return float(plan.parameters["added"]) if by == "parameters" else plan.flops_per_token["active"]


def _spread(experiment: "Experiment", plan_of: Callable[["Experiment"], "Plan"]) -> list[int]:
    """Return what each layer gets of that of which a total or mean is solved for: experts, or multiples of a rank."""
    plan, update = plan_of(experiment), experiment.method.low_rank()
    if plan.rank_per_layer and update:
        return [rank // update.rank for rank in plan.rank_per_layer]
    return plan.experts_per_layer or [1] * (experiment.model.num_layers() or 1)


def _alpha(experiment: "Experiment", rank: int) -> float:
    """Return the alpha that goes with a rank, as it is typed."""
    update = experiment.method.low_rank()
    assert update is not None
    return float(f"{update.alpha * rank / update.rank:.12g}")


def scale_of(experiment: "Experiment", plan: "Plan") -> float | None:
    """Return alpha over rank, the mean over layers; None without low-rank updates."""
    update = experiment.method.low_rank()
    if update is None:
        return None
    ranks = [rank for rank in plan.rank_per_layer or [] if rank] or [update.rank]
    return sum(update.alpha / rank for rank in ranks) / len(ranks)


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
