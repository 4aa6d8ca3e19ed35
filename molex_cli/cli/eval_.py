"""`molex eval`: saved runs, scored again in a fresh process."""

import math
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli import eval_language, eval_runs, saved
from molex_cli.cli.parser import Parser
from molex_cli.config.parsing import key_of
from molex_cli.config.task import SHARED_SPLITS
from molex_cli.errors import ConfigError, MolexError, shortened
from molex_cli.metrics.base import scored_class
from molex_cli.records.run_folder import adapter_of
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.checkpoints.saved_run import EvaluationRequest, SavedRun
    from molex_cli.config.schema import Experiment

Scored = Callable[[Path], "tuple[list[dict[str, Any]], SavedRun]"]
"""What scores a run."""
NAMED = "the paths"  # stands for them where run= would be
SUMMARY = "score saved runs on any task or split, with mistakes or noise in its input if you like"
READ = ("task", "data_dir", "cache_dir", "train.max_rows", "train.max_length", "train.eval_batch_size", "hardware")


@dataclass(kw_only=True)
class Settings(saved.SavedRunSettings):
    """What is scored."""

    split: str = field(default="validation", metadata={"choices": SHARED_SPLITS})
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
    lm_eval: list[str] = field(default_factory=list, metadata={"shown": "[NAME,...]"})
    """Instead: tasks of lm-evaluation-harness, which score a decoder: [arc_challenge,hellaswag]."""
    lm_eval_path: str | None = field(default=None, metadata={"shown": "DIR"})
    """Folder of task files (YAML) beside the harness's own, as its --include_path."""
    lm_eval_num_fewshot: int | None = None
    """Examples before each question; null takes what each task says."""
    lm_eval_limit: float | None = None
    """First rows of each task alone, or below 1 their share."""
    lm_eval_seed: int = 1234
    """Of all that the harness draws; 1234 is its own choice."""
    text: str | None = field(default=None, metadata={"shown": "FILE"})
    """Instead: a text file, on which a decoder's loss and perplexity are compared with its base model's."""
    text_stride: int | None = None
    """Tokens of each window of train.max_length that are scored, given those before; null is half of it."""

    def perturbations(self) -> list[tuple[str, float] | None]:
        """Return kind and strength of each scoring; None is the text as it is."""
        named = {"noise": self.noise, "characters": self.characters, "words": self.words}
        changes = [(kind, float(strength)) for kind, strengths in named.items() for strength in strengths]
        return [*changes] if changes else [None]


def _parser() -> Parser:
    parser = Parser(
        "eval",
        "Score saved runs on any task or split; writes evaluations/ into their folders. Several paths, a folder of "
        "runs or a pattern are several runs: each has a line, and the others go on if one fails.",
        examples=(
            "molex eval outputs/NAME",
            "molex eval outputs/NAME which=best task=glue/rte split=validation",
            "molex eval outputs/NAME noise=[0,0.5] characters=[0,0.1]",
            "molex eval 'outputs/*' split=test",
            "molex eval outputs/ lm_eval=[arc_challenge,hellaswag]",
            "molex eval outputs/NAME text=wiki.txt train.max_length=512",
        ),
    )
    parser.add_overrides(own=Settings, reads=READ)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser


def main(argv: list[str]) -> int:
    """Score one run, or several, on their own or another task."""
    options = _parser().parse(argv)
    paths, typed = saved.paths_in(options.overrides)
    overrides = [eval_language.in_brackets(text) for text in typed]
    asked = saved.read(Settings, [*([f"run={NAMED}"] if paths else []), *overrides], READ)
    settings, given, keys = asked
    kind = eval_language.kind_of(settings, {key_of(text) for text in overrides})
    if settings.split not in SHARED_SPLITS:
        raise ConfigError(f"split must be train, validation or test, got {settings.split}")
    texts = [str(located(each)) for each in (*paths, *([settings.run] if settings.run != NAMED else []))]
    runs, left_out = eval_runs.found(texts)
    for line in left_out:
        say(f"left out: {shortened(line)}", file=sys.stderr)
    if not runs:
        raise ConfigError(f"run must hold finished runs, got none in {', '.join(texts)}")
    language = eval_language.Scoring(kind, settings, given, keys) if kind else None
    scored = language.scored if language else partial(_scored, settings=settings, given=given, keys=keys)
    shown = (eval_language.line, eval_language.show) if language else (_line, _print)
    if [str(run) for run in runs] == texts and len(runs) == 1:
        return _one(runs[0], scored, shown[1], as_lines=options.json)
    return _several(runs, scored, shown[0], as_lines=options.json)


def _one(path: Path, scored: Scored, show: Callable[..., None], *, as_lines: bool) -> int:
    """Score a run and show all of it."""
    from molex_cli.records import as_json

    results, run = scored(path)
    if as_lines:
        say(as_json(results))
    else:
        show(results, run)
    return 0


def _several(paths: Sequence[Path], scored: Scored, line: Callable[..., str], *, as_lines: bool) -> int:
    """Score runs one after another, a line for each scoring; return 1 if one failed."""
    from molex_cli.records import as_json

    failed = 0
    for path in paths:
        try:
            results, _ = scored(path)
        except MolexError as error:
            say(f"failed: {path}: {shortened(' '.join(str(error).splitlines()))}", file=sys.stderr)
            failed += 1
        except Exception as error:
            traceback.print_exception(error)
            say(f"failed: {path}: {type(error).__name__}", file=sys.stderr)
            failed += 1
        else:
            for each in results:
                say(as_json({"run": str(path), **each}) if as_lines else line(path, each), flush=True)
    if failed:
        say(f"{failed} of {len(paths)} runs failed; the others are scored", file=sys.stderr)
    return 1 if failed else 0


def _scored(
    path: Path, settings: Settings, given: "Experiment", keys: set[str]
) -> "tuple[list[dict[str, Any]], SavedRun]":
    """Score a run in all ways that are asked for; what does not fit fails before its model is loaded."""
    adapter_of(path, settings.which)
    from molex_cli.checkpoints import saved_run

    about = saved_run.about(path, settings.which)
    requests = _requests(settings, about.experiment, given, keys)
    prepared = [(request, *saved_run.prepared(about, request)) for request in requests]
    run = saved_run.opened(path, settings.which, given.hardware, given.cache_dir)
    return [saved_run.scored(run, *each, change) for each in prepared for change in settings.perturbations()], run


def _line(path: Path, result: dict[str, Any]) -> str:
    """Return the scores of a run as a line."""
    changed, positive = result["perturbation"], result["evaluation"]["positive"]
    where = [*result["where"].values(), *([f"{changed['kind']} {changed['strength']:g}"] if changed else [])]
    scores = [f"{scored_class(name, positive)} {_shown(score)}" for name, score in result["scores"].items()]
    notes = [f"degenerate: {'; '.join(result['degenerate'])}"] if result["degenerate"] else []
    about = [path.name, " ".join([result["task"], result["split"], *where]), *scores, f"{result['rows_used']:,} rows"]
    return "  ".join([*about, *notes])


def _shown(score: float | None) -> str:
    return "undefined" if score is None or math.isnan(score) else f"{score:.4f}"


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


def _print(results: list[dict[str, Any]], run: "SavedRun") -> None:
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
        scores = (_shown(result["scores"][name]) for name in first["scores"])
        table.add_row(f"{result['task']} {where}".strip(), shown, *scores)
    show(table)
    for reason in dict.fromkeys(reason for result in results for reason in result["degenerate"]):
        terminal.print(f"note: degenerate: {reason}")
    terminal.print(f"written to {run.folder}/evaluations")
