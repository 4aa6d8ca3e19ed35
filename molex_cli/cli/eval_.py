"""`molex eval`: a saved run, scored again in a fresh process."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molex_cli.cli import saved
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError

SUMMARY = "score a saved run on any task or split, with mistakes or noise in its input if you like"
KEYS = """\
settings of molex eval alone
  run=PATH            folder of a run, or an adapter file
  which=last|best     which of its adapters
  split=NAME          validation (default), test or train
  map={a: b, ...}     what each label of the run means on the other task
  noise=[0,0.5]       lengths of a Gaussian direction added to every token's embedding
  characters=[0,0.1]  shares of letters with a mistake
  words=[0,0.1]       shares of words dropped, doubled or swapped
  seed=0              of noise and mistakes
and task=..., data_dir=..., train.max_rows=..., train.max_length=..., train.eval_batch_size=..., hardware=... as for
molex train
"""
READ = ("task", "data_dir", "train.max_rows", "train.max_length", "train.eval_batch_size", "hardware")


@dataclass(kw_only=True)
class Settings(saved.Opened):
    """What is scored."""

    split: str = "validation"
    map: dict[str, str] = field(default_factory=dict)
    noise: list[float] = field(default_factory=list)
    characters: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    seed: int = 0

    def perturbations(self) -> list[tuple[str, float] | None]:
        """Return kind and strength of each scoring; None is the text as it is."""
        named = {"noise": self.noise, "characters": self.characters, "words": self.words}
        found = [(kind, float(strength)) for kind, each in named.items() for strength in each]
        return [*found] if found else [None]


def main(argv: list[str]) -> int:
    """Score a run on its own or another task."""
    parser = Parser(
        "eval",
        "Score a saved run on any task or split; writes evaluations/ into its folder.",
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_overrides(help=None)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse(argv)
    settings, left = saved.split_settings(Settings, options.overrides)
    if settings.split not in ("train", "validation", "test"):
        raise ConfigError(f"split must be train, validation or test, got {settings.split}")
    experiment = overrides.checked(command_line.CommandLine(overrides=left))
    given = saved.require_known(left, READ)

    from molex_cli.checkpoints import saved_run
    from molex_cli.records import as_json

    run = saved_run.opened(Path(settings.run), settings.which, experiment.hardware)
    chosen = experiment if "task" in given else run.experiment
    tasks = list(chosen.stages.values()) or [chosen.task]
    results = [
        saved_run.scored(
            run,
            saved_run.EvaluationRequest(
                task=task,
                split=settings.split,
                data_dir=saved.data_dir(run.experiment, experiment, given),
                max_rows=experiment.train.max_rows,
                mapping=settings.map,
                batch_size=experiment.train.eval_batch_size if "train.eval_batch_size" in given else None,
                max_length=experiment.train.max_length if "train.max_length" in given else None,
                seed=settings.seed,
            ),
            perturbation,
        )
        for task in tasks
        for perturbation in settings.perturbations()
    ]
    if options.json:
        print(as_json(results))
    else:
        _print(results, run)
    return 0


def _print(results: list[dict[str, Any]], run: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    first = results[0]
    terminal = Console(highlight=False)
    terminal.print(f"[bold]{run.experiment.name}[/bold], on {first['split']}", soft_wrap=True)
    table = Table("task", "input", box=None, pad_edge=False)
    for name in first["scores"]:
        table.add_column(name, justify="right")
    for result in results:
        changed = result["perturbation"]
        shown = f"{changed['kind']} {changed['strength']:g}" if changed else "as it is"
        where = " ".join(result["where"].values())
        scores = (f"{result['scores'][name]:.4f}" for name in first["scores"])
        table.add_row(f"{result['task']} {where}".strip(), shown, *scores)
    terminal.print(table)
    for reason in dict.fromkeys(reason for result in results for reason in result["degenerate"]):
        terminal.print(f"note: degenerate: {reason}", markup=False)
    terminal.print(f"written to {run.folder}/evaluations", soft_wrap=True)
