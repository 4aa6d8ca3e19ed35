"""`molex probe`: what each layer of a saved run knows of a task."""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.cli import saved
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, overrides

if TYPE_CHECKING:
    from molex_cli.analysis.probe import Probe

SUMMARY = "what each layer of a saved run knows of a task, by a linear model on its output"
KEYS = """\
settings of molex probe alone
  run=PATH              folder of a run, or an adapter file
  which=last|best       which of its adapters
  token=mean|first|last what of a layer's output is read (auto: first for encoders, last for decoders)
  plot=FILE             draw the first metric against the layer (png, svg, pdf)
and task=..., data_dir=..., train.max_rows=..., hardware=... as for molex train
"""


@dataclass(kw_only=True)
class Settings(saved.Opened):
    """What is read."""

    token: str = "auto"
    plot: str | None = None


def main(argv: list[str]) -> int:
    """Print one score a layer."""
    parser = Parser(
        "probe",
        "Train a linear model on the frozen output of each layer of a saved run, and score it.",
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_overrides(help=None)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    options = parser.parse(argv)
    settings, left = saved.split_settings(Settings, options.overrides)
    experiment = overrides.checked(command_line.CommandLine(overrides=left))
    given = saved.require_known(left, ("task", "data_dir", "train.max_rows", "hardware"))

    from molex_cli.analysis import probe
    from molex_cli.checkpoints import saved_run
    from molex_cli.records import as_json, write_text

    run = saved_run.opened(Path(settings.run), settings.which, experiment.hardware)
    task = experiment.task if "task" in given else run.experiment.task
    data_dir = saved.data_dir(run.experiment, experiment, given)
    max_rows = experiment.train.max_rows
    found = probe.probed(run, task, data_dir, max_rows, settings.token)
    about = {"task": task.name, "adapter": run.file.name, "step": run.step, "max_rows": max_rows}
    about |= dataclasses.asdict(found)
    name = f"{task.name.replace('/', '-')}-{found.token}-{saved_run.digest([run.file.name, max_rows])}"
    path = saved_run.subfolder(run.folder, "probes") / f"{name}.json"
    write_text(path, as_json(about, indent=2) + "\n")
    if settings.plot:
        probe.drawn(found, task.metrics[0], f"{run.experiment.name}, probed on {task.name}", Path(settings.plot))
    if options.json:
        print(as_json(about))
    else:
        _print(found, f"{run.experiment.name}, probed on {task.name} ({found.token} token)", str(path))
    return 0


def _print(found: "Probe", title: str, path: str) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(found.scores[0])
    terminal = Console(highlight=False)
    terminal.print(f"[bold]{title}[/bold]", soft_wrap=True)
    table = Table("layer", box=None, pad_edge=False)
    for name in [*names, f"{names[0]} on training rows"]:
        table.add_column(name, justify="right")
    for layer, (scores, training) in enumerate(zip(found.scores, found.training, strict=True)):
        table.add_row(str(layer), *(f"{value:.4f}" for value in scores.values()), f"{training:.4f}")
    table.add_row("majority", *(f"{found.majority[name]:.4f}" for name in names), "")
    terminal.print(table)
    terminal.print(f"written to {path}", soft_wrap=True)
