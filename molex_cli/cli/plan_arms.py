"""`molex plan --match` with several arms: the setting of each that meets the budget, and one sweep of them."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from molex_cli.config.command_line import CommandLine
from molex_cli.records import as_json
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment
    from molex_cli.cost.arms import Budget
    from molex_cli.cost.matching import Match


def show(
    found: "Mapping[tuple[str, ...], tuple[Match, Experiment]]", line: CommandLine, wanted: "Budget", *, is_json: bool
) -> int:
    """Print what was found for each arm, by in what it differs from the others; return the exit code."""
    if is_json:
        arms = {" ".join(arm): match.as_data() for arm, (match, _) in found.items()}
        say(as_json({"match": wanted.of, "by": wanted.by, "arms": arms}))
        return 0
    for arm, (match, _) in found.items():
        say(f"{' '.join(arm)}: {match.told(wanted.by, wanted.of)}")
    seeds = [] if any(text.startswith("seed=") for text in line.overrides) else ["seed=0,1,2"]
    say("one sweep of them:", f"  {shlex.join(['molex', 'train', '-m', *line.overrides, *seeds, *wanted.flags()])}")
    return 0
