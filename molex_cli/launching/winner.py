"""What a search found: the best values, and the command that runs them with seeds that chose nothing."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from molex_cli.compare.loading import Run
from molex_cli.config import schema
from molex_cli.config.command_line import CommandLine
from molex_cli.config.parsing import is_hydra, key_of, parsed
from molex_cli.config.sweeps import as_text, typed, values_of
from molex_cli.launching.ending import Ending
from molex_cli.metrics.base import Metric, scored_class

FRESH_SEEDS = 3  # fewer have no p
SWEEP_FLAGS = ("-m", "--multirun")
ON_SELECTION = "on the rows that train.selection set apart"
ON_REPORTED = "on the rows that are reported, which flatters it; train.selection=0.1 sets others apart"


@dataclass(frozen=True)
class Winner:
    """The best of a search."""

    values: Sequence[str]
    """As for `molex train`."""
    searched: str
    """What was searched, in words."""
    score: float
    metric: str
    on: str
    """On which rows it was chosen."""

    def lines(self, line: CommandLine, settings: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
        """Yield what won, and the command that runs it: `settings` replace those of the line, `seeds` chose it."""
        yield f"best of {self.searched}  {' '.join(self.values)}  {self.metric} {self.score:.4f} {self.on}"
        yield "its own score is that of the luckiest; runs of other seeds tell what it is worth:"
        yield f"  {command(line, settings, seeds)}"


def winners(ending: Ending, line: CommandLine) -> Iterator[str]:
    """Yield the best values of a sweep over settings, for each choice of files; nothing of a sweep over files alone."""
    searched = [key for key in ending.swept() if key not in schema.GROUPS]
    by_choice: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for arm in ending.by_arm:
        by_choice.setdefault(tuple(value for value in arm if key_of(value) not in searched), []).append(arm)
    seeds = sorted({job.experiment.seed for job in ending.jobs})
    for choice, arms in by_choice.items() if searched else ():
        scored = {arm: found for arm in arms if (found := _scored(ending, arm))}
        words = f"{len(arms)} settings" + (f" of {' '.join(choice)}" if choice else "")
        if scored and all(len(ending.cells[arm].collapsed) == len(ending.by_arm[arm]) for arm in scored):
            yield f"no best of {words}: every run that finished collapsed"
        elif scored and len(arms) > 1:
            best = _best(scored)
            score, metric, on = scored[best]
            values = [value for value in best if key_of(value) in searched]
            shown = scored_class(metric.name, ending.cells[best].positive)
            yield from Winner(values, words, score, shown, on).lines(line, [*choice, *values], seeds)


def _best(scored: Mapping[tuple[str, ...], tuple[float, Metric, str]]) -> tuple[str, ...]:
    """Return the arm with the best score, of equals the first."""
    best, highest = next(iter(scored)), None
    for arm, (score, metric, _) in scored.items():
        if metric.better(score, highest):
            best, highest = arm, score
    return best


def command(line: CommandLine, settings: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the command of a sweep with settings in the place of what it swept over, and the next seeds."""
    replaced = {key_of(text) for text in (*settings, "seed=")}
    kept = [text for text in line.overrides if key_of(text) not in replaced and not is_searching(text)]
    flags = [flag for flag in line.flags if flag not in SWEEP_FLAGS]
    after = max(seeds, default=-1) + 1
    fresh = ",".join(str(after + i) for i in range(FRESH_SEEDS))
    return shlex.join(["molex", "train", "-m", *flags, *kept, *map(typed, settings), f"seed={fresh}"])


def is_searching(text: str) -> bool:
    """Return whether an override says how a search goes on."""
    key = key_of(text)
    return is_hydra(key) and key.replace("/", ".").startswith("hydra.sweeper")


def results_in(output_dir: str) -> set[Path]:
    """Return the files in which optimisers wrote what they found."""
    return set(Path(output_dir, "sweeps").glob("*/optimization_results.yaml"))


def found_by_optimiser(path: Path, line: CommandLine, experiment: schema.Experiment) -> Iterator[str]:
    """Yield what an optimiser found, from the file that it wrote at its end."""
    results: Any = OmegaConf.to_container(OmegaConf.load(path))
    values = [f"{key}={as_text(value)}" for key, value in results["best_params"].items() if key != "seed"]
    metric = experiment.task.metrics[0]
    on = ON_SELECTION if experiment.train.selection else ON_REPORTED
    drawn = [text for text in line.overrides if key_of(text) == "seed"]
    seeds = _seeds(drawn, experiment.seed)
    won = Winner(values, "all trials", float(results["best_value"]), metric, on)
    yield from won.lines(line, values, seeds)


def _seeds(drawn: Sequence[str], seed: int) -> list[int]:
    found = [value for override in parsed(drawn)[0] for value in values_of(override)]
    return [value for value in found if isinstance(value, int)] or [seed]


def _scored(ending: Ending, arm: tuple[str, ...]) -> tuple[float, Metric, str] | None:
    """Return the mean score by which an arm is chosen, and on which rows; nothing where a seed did not finish."""
    cell = ending.cells.get(arm)
    if cell is None or len(cell.runs) < len(ending.by_arm[arm]):
        return None
    chosen = [_on_selection(run, cell.which, cell.metric.name) for run in cell.runs]
    known = [value for value in chosen if value is not None]
    if len(known) < len(chosen):
        return cell.mean, cell.metric, ON_REPORTED
    return sum(known) / len(known), cell.metric, ON_SELECTION


def _on_selection(run: Run, which: str, metric: str) -> float | None:
    evaluated = run.record.evaluated(which)
    return (evaluated.get("selection") or {}).get(metric) if evaluated else None
