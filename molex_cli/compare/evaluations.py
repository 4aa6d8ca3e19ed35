"""What `molex eval` left in the folders of runs, and a run as one of these scored it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import filterfalse
from pathlib import Path

from molex_cli.compare.collapse import CONSTANT
from molex_cli.compare.loading import Run
from molex_cli.records.evaluation import SplitEvaluation
from molex_cli.records.parts import FAILED, Scores
from molex_cli.records.reading import read_json


def evaluations(folder: Path) -> Iterator[tuple[Path, SplitEvaluation]]:
    """Yield what `molex eval` left in a run's folder."""
    for file in sorted((folder / "evaluations").glob("*.json")):
        yield file, read_json(file, "an evaluation of a run", SplitEvaluation)


def predictions_of(file: Path) -> Path:
    """Return where the examples of an evaluation are."""
    return file.with_name(f"{file.stem}-predictions.jsonl")


def rescored(run: Run, name: str, file: Path, found: SplitEvaluation, scores: Scores) -> Run:
    """Return a run with these scores on what has this name, and the rows and predictions of that evaluation."""
    data = {key: about for key, about in run.record.data.items() if not key.endswith("validation")}
    data[name] = {"fingerprint": found["fingerprint"], "rows": found["rows"], "rows_used": found["rows_used"]}
    degenerate = [*found["degenerate"], *filterfalse(_is_of_predictions, run.record.degenerate)]
    record = replace(run.record, scores=scores, evaluation=found["evaluation"], data=data, degenerate=degenerate)
    return replace(run, record=record, split=name, predictions=predictions_of(file))


def _is_of_predictions(reason: str) -> bool:
    """Return whether a run is degenerate by its predictions, and not by what it is."""
    return reason == CONSTANT or reason.endswith(" is undefined") or FAILED in reason
