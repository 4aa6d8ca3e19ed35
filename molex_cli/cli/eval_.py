"""`molex eval`: a saved run, scored again in a fresh process."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from molex_cli.cli import saved
from molex_cli.cli.parser import Parser
from molex_cli.errors import ConfigError
from molex_cli.metrics.base import scored_class
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.checkpoints.saved_run import EvaluationRequest
    from molex_cli.config.schema import Experiment

SUMMARY = "score a saved run on any task or split, with mistakes or noise in its input if you like"
READ = ("task", "data_dir", "cache_dir", "train.max_rows", "train.max_length", "train.eval_batch_size", "hardware")


@dataclass(kw_only=True)
class Settings(saved.SavedRunSettings):
    """What is scored."""

    split: str = field(default="validation", metadata={"choices": ("train", "validation", "test")})
    """Which rows of the task."""
    map: dict[str, str] = field(default_factory=dict)
    """What each label of the run means on the other task."""
    noise: list[float] = field(default_factory=list)
    """Lengths of a Gaussian direction added to every token's embedding: [0,0.5]."""
    characters: list[float] = field(default_factory=list)
    """Shares of letters with a mistake: [0,0.1]."""
    words: list[float] = field(default_factory=list)
    """Shares of words dropped, doubled or swapped: [0,0.1]."""
    seed: int = 0
    """Of noise and mistakes."""

    def perturbations(self) -> list[tuple[str, float] | None]:
        """Return kind and strength of each scoring; None is the text as it is."""
        named = {"noise": self.noise, "characters": self.characters, "words": self.words}
        changes = [(kind, float(strength)) for kind, strengths in named.items() for strength in strengths]
        return [*changes] if changes else [None]


def _parser() -> Parser:
    parser = Parser(
        "eval",
        "Score a saved run on any task or split; writes evaluations/ into its folder.",
        examples=(
            "molex eval run=outputs/NAME",
            "molex eval run=outputs/NAME which=best task=glue/rte split=validation",
            "molex eval run=outputs/NAME noise=[0,0.5] characters=[0,0.1]",
        ),
    )
    parser.add_overrides(own=Settings, reads=READ)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser


def main(argv: list[str]) -> int:
    """Score a run on its own or another task."""
    options = _parser().parse(argv)
    settings, experiment, given = saved.read(Settings, options.overrides, READ)
    if settings.split not in ("train", "validation", "test"):
        raise ConfigError(f"split must be train, validation or test, got {settings.split}")

    from molex_cli.checkpoints import saved_run
    from molex_cli.records import as_json

    path = expanded(settings.run)
    about = saved_run.about(path, settings.which)
    requests = _requests(settings, about.experiment, experiment, given)
    prepared = [(request, *saved_run.prepared(about, request)) for request in requests]  # what does not fit fails early
    run = saved_run.opened(path, settings.which, experiment.hardware, experiment.cache_dir)
    results = [saved_run.scored(run, *each, change) for each in prepared for change in settings.perturbations()]
    if options.json:
        say(as_json(results))
    else:
        _print(results, run)
    return 0


def _requests(settings: Settings, own: "Experiment", given: "Experiment", keys: set[str]) -> "list[EvaluationRequest]":
    """Return what to score: the command line's task, else the run's own, which may have stages."""
    from molex_cli.checkpoints.saved_run import EvaluationRequest

    chosen = given if "task" in keys else own
    return [
        EvaluationRequest(
            task=task,
            split=settings.split,
            data_dir=saved.data_dir(own, given, keys),
            max_rows=given.train.max_rows,
            mapping=settings.map,
            batch_size=given.train.eval_batch_size if "train.eval_batch_size" in keys else None,
            max_length=given.train.max_length if "train.max_length" in keys else None,
            seed=settings.seed,
        )
        for task in list(chosen.stages.values()) or [chosen.task]
    ]


def _print(results: list[dict[str, Any]], run: Any) -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import Terminal, show

    first = results[0]
    terminal = Terminal(soft_wrap=True)
    terminal.print(f"{run.experiment.name}, on {first['split']}", style="bold")
    table = Table("task", "input", box=None, pad_edge=False)
    for name in first["scores"]:
        table.add_column(scored_class(name, first["evaluation"]["positive"]), justify="right")
    for result in results:
        changed = result["perturbation"]
        shown = f"{changed['kind']} {changed['strength']:g}" if changed else "as it is"
        where = " ".join(result["where"].values())
        scores = (f"{result['scores'][name]:.4f}" for name in first["scores"])
        table.add_row(f"{result['task']} {where}".strip(), shown, *scores)
    show(table)
    for reason in dict.fromkeys(reason for result in results for reason in result["degenerate"]):
        terminal.print(f"note: degenerate: {reason}")
    terminal.print(f"written to {run.folder}/evaluations")
