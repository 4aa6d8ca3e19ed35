"""`molex eval`: a saved run, scored again in a fresh process."""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molex_cli.cli import arguments, overrides, saved
from molex_cli.errors import ConfigError

KEYS = """\
settings of its own
  run=PATH            folder of a run, or an adapter file
  which=last|best     which of its adapters
  split=NAME          validation (default), test or train
  map={a: b, ...}     what each label of the run means on the other task
  noise=[0,0.5]       lengths of a Gaussian direction added to every token's embedding
  characters=[0,0.1]  shares of letters with a mistake
  words=[0,0.1]       shares of words dropped, doubled or swapped
  seed=0              of noise and mistakes
and task=..., data_dir=..., train.max_rows=..., train.eval_batch_size=..., hardware=... as for molex train
"""


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
    parser = argparse.ArgumentParser(
        prog="molex eval",
        description="Score a saved run on any task or split; writes evaluations/ into its folder.",
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.error = arguments.refuse  # type: ignore[method-assign]
    options = parser.parse_intermixed_args(argv)
    settings, left = saved.split_settings(Settings, options.overrides)
    if settings.split not in ("train", "validation", "test"):
        raise ConfigError(f"split must be train, validation or test, got {settings.split}")
    experiment = overrides.checked(arguments.CommandLine(overrides=left))

    from molex_cli import saved as runs

    run = runs.opened(Path(settings.run), settings.which, experiment.hardware)
    given = {text.partition("=")[0] for text in left}
    question = runs.Question(
        task=experiment.task if any(key.split(".")[0] == "task" for key in given) else run.experiment.task,
        split=settings.split,
        data_dir=experiment.data_dir,
        max_rows=experiment.train.max_rows,
        mapping=settings.map,
        batch_size=experiment.train.eval_batch_size if "train.eval_batch_size" in given else None,
        seed=settings.seed,
    )
    results = [runs.scored(run, question, perturbation) for perturbation in settings.perturbations()]
    if options.json:
        print(json.dumps(results))
    else:
        _print(results, run)
    return 0


def _print(results: list[dict[str, Any]], run: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    first = results[0]
    terminal = Console(highlight=False)
    terminal.print(f"[bold]{run.experiment.name}[/bold], on {first['task']} {first['split']}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("input")
    for name in first["scores"]:
        table.add_column(name, justify="right")
    for result in results:
        changed = result["perturbation"]
        shown = f"{changed['kind']} {changed['strength']:g}" if changed else "as it is"
        table.add_row(shown, *(f"{value:.4f}" for value in result["scores"].values()))
    terminal.print(table)
    terminal.print(f"{first['rows_used']} rows; written to {run.folder}/evaluations", soft_wrap=True)
