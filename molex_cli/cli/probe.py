"""`molex probe`: what each layer of a saved run knows of a task."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli import saved
from molex_cli.cli.parser import Parser
from molex_cli.metrics.base import scored_class
from molex_cli.records.run_folder import adapter_of
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.analysis.probe import Probe
    from molex_cli.checkpoints.saved_run import SavedRun

SUMMARY = "score how well the output of each layer predicts the labels, by a linear model"
READ = ("task", "data_dir", "cache_dir", "train.max_rows", "hardware")


@dataclass(kw_only=True)
class Settings(saved.SavedRunSettings):
    """What is read."""

    token: str = field(default="auto", metadata={"choices": ("auto", "mean", "first", "last")})
    """What of a layer's output is read; auto takes the first token of an encoder and the last of a decoder."""
    plot: str | None = None
    """Draw the first metric against the layer (png, svg, pdf)."""


def _parser() -> Parser:
    parser = Parser(
        "probe",
        "Train a linear model on the frozen output of each layer of a saved run, and score it.",
        examples=("molex probe outputs/NAME", "molex probe outputs/NAME task=glue/rte plot=layers.pdf"),
    )
    parser.add_overrides(own=Settings, reads=READ)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    return parser


def main(argv: list[str]) -> int:
    """Print one score a layer."""
    options = _parser().parse(argv)
    settings, experiment, given = saved.read(Settings, options.overrides, READ)
    path = located(settings.run)
    adapter_of(path, settings.which)

    from molex_cli.analysis import probe
    from molex_cli.checkpoints import saved_run
    from molex_cli.data.reading import read
    from molex_cli.records import as_json

    own = saved_run.about(path, settings.which).experiment
    task, max_rows = experiment.task if "task" in given else own.task, experiment.train.max_rows
    splits, labels = read(task, saved.data_dir(own, experiment, given), max_rows)
    run = saved_run.opened(path, settings.which, experiment.hardware, experiment.cache_dir)
    scored = probe.probed(run, task, splits, labels, settings.token)
    about = {"task": task.name, "adapter": run.file.name, "step": run.step, "max_rows": max_rows}
    about |= dataclasses.asdict(scored)
    file = _written(run, about)
    title = f"{run.experiment.name}, probed on {task.name}"
    if settings.plot:
        probe.drawn(scored, task.metrics[0], title, expanded(settings.plot))
    if options.json:
        say(as_json(about))
    else:
        _print(scored, f"{title} ({scored.token} token)", str(file))
    return 0


def _written(run: "SavedRun", about: dict[str, Any]) -> Path:
    """Write the probe into the run's folder and return the file."""
    from molex_cli.checkpoints import saved_run
    from molex_cli.records import as_json, file_part, write_text

    condition = saved_run.digest([run.file.name, about["max_rows"]])
    name = f"{file_part(about['task'])}-{about['token']}-{condition}"
    path = saved_run.subfolder(run.folder, "probes") / f"{name}.json"
    write_text(path, as_json(about, indent=2) + "\n")
    return path


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _print(scored: "Probe", title: str, path: str) -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import Terminal, show

    names = list(scored.scores[0])
    terminal = Terminal(soft_wrap=True)
    terminal.print(title, style="bold")
    table = Table("layer", box=None, pad_edge=False)
    shown = [scored_class(name, scored.positive) for name in names]
    for name in [*shown, f"{shown[0]} on training rows"]:
        table.add_column(name, justify="right")
    for layer, (scores, training) in enumerate(zip(scored.scores, scored.training, strict=True)):
        table.add_row(str(layer), *(f"{value:.4f}" for value in scores.values()), f"{training:.4f}")
    table.add_row("best constant", *(_number(scored.constant.get(name)) for name in names), "")
    show(table)
    terminal.print(f"written to {path}")
