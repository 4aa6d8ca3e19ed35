"""`molex doctor`: what works here, in seconds; nothing is loaded, sent or changed."""

from functools import partial
from pathlib import Path

from molex_cli.cli.parser import Parser
from molex_cli.cli.saved import require_read
from molex_cli.runtime.paths import default_cache_dir
from molex_cli.runtime.streams import say

SUMMARY = "check this machine: devices, data, models, hub, W&B, launchers, extras, disk"
READ = ("data_dir", "output_dir", "cache_dir")


def main(argv: list[str]) -> int:
    """Print a line for each check, or all as JSON."""
    parser = Parser("doctor", __doc__, examples=("molex doctor", "molex doctor data_dir=DIR --json"))
    parser.add_argument("--json", action="store_true", help="print JSON: works and text of each check")
    parser.add_overrides("data_dir, output_dir and cache_dir, as for molex train", reads=READ)
    options = parser.parse(argv)
    from molex_cli.config import command_line, overrides
    from molex_cli.diagnosis import machine, sources
    from molex_cli.diagnosis.checking import findings
    from molex_cli.records import as_json

    experiment = overrides.checked(command_line.CommandLine(overrides=options.overrides))
    require_read(options.overrides, READ)
    cache = Path(experiment.cache_dir) if experiment.cache_dir else default_cache_dir()
    found = findings(
        {
            "packages": machine.packages,
            "device": machine.device,
            "threads": machine.threads,
            "tasks": partial(sources.tasks, experiment.data_dir),
            "models": sources.models,
            "hub": sources.reached_hub,
            "W&B": sources.wandb,
            "launchers": sources.launchers,
            "extras": machine.optional,
            "cache": partial(machine.room, cache, "cache_dir"),
            "runs": partial(machine.room, Path(experiment.output_dir), "output_dir"),
        }
    )
    if options.json:
        say(as_json({name: {"works": each.works, "text": each.text} for name, each in found.items()}, indent=2))
    else:
        say(*(f"{'ok' if each.works else '--'} {name:10} {each.text}" for name, each in found.items()))
    return 0
