"""`molex allocate`: how several rules would spread experts over the layers of a model, without training."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molex_cli.cli.parser import Parser
from molex_cli.cli.saved import require_read, split_settings
from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError, nearest
from molex_cli.methods.allocation import Allocation, rule_problems
from molex_cli.methods.allocations.base import RULES, SHAPES
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.analysis.allocations import Outcome

SUMMARY = "compare rules that place experts: counts, scores, rank correlations; trains nothing"
ROWS = ("train.max_rows", "train.max_length", "train.selection", "train.selection_seed", "train.label_smoothing")
READ = ("model", "task", "method", "data_dir", "cache_dir", "hardware", *ROWS)


@dataclass(kw_only=True)
class Settings:
    """What is spread, and what rules read."""

    rule: str = ""
    """Rules and shapes, with commas between; all rules, if none is named."""
    total: int | None = None
    """Experts over all layers."""
    mean: float | None = None
    """Experts of a layer on average, instead of `total`; 5 unless set."""
    min: int = 1
    """Fewest experts of a layer."""
    max: int | None = None
    """Most experts of a layer."""
    rows: int = 256
    """Training rows that are read; all where there are fewer."""
    seed: int = 0
    """Which rows, which random shape, and which head a model without one gets."""
    from_run: str | None = None
    """Folder of the finished run that rule=knockout measures."""


def _parser() -> Parser:
    example = "molex allocate model=minilm task=glue/sst2 rule=spectral,gradient,similarity total=30"
    parser = Parser("allocate", "Show how rules would spread experts over a model's layers.", examples=(example,))
    parser.add_overrides(own=Settings, reads=READ)
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    parser.add_argument("--figure", type=expanded, metavar="FILE", help="draw the counts as pdf, svg or png")
    return parser


def main(argv: list[str]) -> int:
    """Print counts and scores side by side."""
    options = _parser().parse(argv)
    rules, rest = _rules(options.overrides)
    own, left = split_settings(Settings, rest)
    experiment = overrides.checked(command_line.CommandLine(overrides=left))
    require_read(left, READ)
    spread = {name: value for name, value in vars(own).items() if name != "rule"}
    allocation = Allocation(**spread)
    _require_possible(allocation, rules, experiment.model.num_layers())

    from molex_cli.analysis import allocations
    from molex_cli.compare import figure

    if options.figure is not None:
        figure.require(options.figure)
    found = allocations.outcomes(experiment, allocation, rules)
    if not any(each.counts for each in found.values()):
        raise ConfigError([f"{name}: {each.problem}" for name, each in found.items()])
    title = f"{experiment.model.name} on {experiment.task.name}"
    alike = allocations.correlations(found)
    if options.figure is not None:
        allocations.draw(found, title, options.figure)
    if options.json:
        _say_json({"model": experiment.model.name, "task": experiment.task.name, **spread}, found, alike)
    else:
        _print(title, found, alike)
    return 0


def _rules(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the rules that are named, or all, and the other settings."""
    named = [text.partition("=")[2] for text in given if text.startswith("rule=")]
    rules = [name for text in named[-1:] for name in text.strip("[]").replace(" ", "").split(",") if name]
    known = sorted({*RULES, *SHAPES})
    for name in rules:
        if name not in known:
            raise ConfigError(f"rule must be one of {', '.join(known)}, got {name}; {nearest(name, known)}")
    return list(dict.fromkeys(rules)) or sorted(RULES), [text for text in given if not text.startswith("rule=")]


def _require_possible(allocation: Allocation, rules: Sequence[str], num_layers: int | None) -> None:
    """Raise ConfigError for numbers that some rule could not keep; the depth may not be known before the model is."""
    any_rule = dataclasses.replace(allocation, rule=next(iter(RULES)), seed=0, from_run=None)
    problems = [f"the allocation{problem}".removeprefix("the allocation.") for problem in any_rule.problems()]
    for name in rules:
        if name in RULES and num_layers is not None and not problems:
            problems = list(rule_problems(dataclasses.replace(allocation, rule=name), num_layers, "the allocation"))
    if problems:
        raise ConfigError(problems)


def _say_json(about: Mapping[str, Any], found: "Mapping[str, Outcome]", alike: Mapping[str, Any]) -> None:
    from molex_cli.records import as_json

    say(as_json({**about, "rules": {name: vars(each) for name, each in found.items()}, "spearman": alike}))


def _print(title: str, found: "Mapping[str, Outcome]", alike: Mapping[str, Mapping[str, float]]) -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import Terminal, show

    terminal = Terminal(soft_wrap=True)
    terminal.print(title, style="bold")
    made = {name: each for name, each in found.items() if each.counts}
    table = Table("layer", box=None, pad_edge=False)
    for name in made:
        table.add_column(name, justify="right")
    for layer in range(len(next(iter(made.values())).counts)):
        table.add_row(str(layer), *(_cell(each, layer) for each in made.values()))
    table.add_row("total", *(str(sum(each.counts)) for each in made.values()))
    show(table)
    terminal.print("counts, with scores in brackets")
    for name, each in found.items():
        if each.rows:
            terminal.print(f"{name} read {each.rows:,} of {each.available:,} training rows")
        if each.problem:
            terminal.print(f"{name} gives nothing: {each.problem}")
    if len(made) > 1:
        _print_alike(alike)


def _cell(outcome: "Outcome", layer: int) -> str:
    score = f" ({outcome.scores[layer]:.3g})" if outcome.scores else ""
    return f"{outcome.counts[layer]}{score}"


def _print_alike(alike: Mapping[str, Mapping[str, float]]) -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import show

    table = Table("Spearman's correlation", box=None, pad_edge=False)
    for name in alike:
        table.add_column(name, justify="right")
    for name, others in alike.items():
        table.add_row(name, *("–" if math.isnan(value) else f"{value:.2f}" for value in others.values()))
    show(table)
