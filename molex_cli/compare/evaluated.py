"""Runs as `molex eval` scored them beside their validation: a comparison reads these as it reads runs.

What was scored is another split of the run's task, a task of lm-evaluation-harness or a text.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from molex_cli.compare import evaluated_language
from molex_cli.compare.choices import SPLITS
from molex_cli.compare.evaluations import evaluations, predictions_of, rescored
from molex_cli.compare.loading import LoadedRuns, Run, unscored
from molex_cli.errors import ConfigError, RecordError, nearest, shortened
from molex_cli.records import read_rows
from molex_cli.records.evaluation import SplitEvaluation
from molex_cli.records.parts import Score, Scores
from molex_cli.records.run_folder import adapter_name


def on_split(loaded: LoadedRuns, which: str, name: str, metric: str = "") -> LoadedRuns:
    """Return the runs with their scores on a split, a task of the harness or a text, and a line on each without.

    `metric` is one of the evaluation's, by default its first.
    """
    found = LoadedRuns(left_out=list(loaded.left_out), diverged=loaded.diverged)
    for run in loaded.runs:
        try:
            found.runs.append(
                _on_split(run, which, name) if name in SPLITS else evaluated_language.scored(run, which, name, metric)
            )
        except RecordError as error:
            found.left_out.append(shortened(str(error)))
    if loaded.runs and not found.runs:
        raise ConfigError(_nowhere(loaded.runs, which, name, metric))
    return found


def _nowhere(runs: Sequence[Run], which: str, name: str, metric: str) -> str:
    """Return what to say where no run has an evaluation of this name."""
    folder = runs[0].folder.parent
    if name in SPLITS:
        way_out = f"molex eval {folder} split={name} which={which} does it"
        return f"--evaluation must name a split that runs were scored on, got {name}; {way_out}"
    known = evaluated_language.known(runs, which)
    if name in known:
        return f"--metric must be one of {name}, got {metric}; {nearest(metric, known[name])}"
    hint = nearest(name, known) if known else f"molex eval {folder} lm_eval=[TASK] or text=FILE scores runs so"
    return f"--evaluation must be {', '.join(SPLITS)}, a task or a text that runs were scored on, got {name}; {hint}"


def _on_split(run: Run, which: str, split: str) -> Run:
    """Return a run with its scores on a split; raise RecordError where it has none."""
    if "stages" in run.record.scores:
        raise RecordError(f"{run.folder} has stages, whose evaluations are not compared")
    file, chosen = _chosen(run, which, split)
    score: Score = {"scores": chosen["scores"], "step": chosen["step"]}
    own = run.record.evaluated(which)
    if own and "selection" in own:
        score["selection"] = own["selection"]  # it is of training rows, and chooses for those who tune
    scores = cast(Scores, {**run.record.scores, "last": score, "best": score})
    scores["constant"] = _constant(predictions_of(file), run.record.scores["metric"])
    scored = rescored(run, split, file, chosen, scores)
    if why := unscored(scored, which):
        raise RecordError(why)
    scored.values(which, scores["metric"])  # damaged predictions are told of now
    return scored


def _chosen(run: Run, which: str, split: str) -> tuple[Path, SplitEvaluation]:
    """Return the evaluation of a run that is compared; raise RecordError where there is none."""
    found = [each for each in evaluations(run.folder) if _is_of(each[1], run, which, split)]
    unlike = [_unlike(evaluation, run, which) for _, evaluation in found]
    if candidates := [each for each, otherwise in zip(found, unlike, strict=True) if not otherwise]:
        return max(candidates, key=lambda each: (*_rank(each[1], run), each[0].stat().st_mtime))
    why = f" as it was scored itself ({unlike[0]})" if unlike else ""
    way_out = f"molex eval {run.folder} split={split} which={which} makes one"
    raise RecordError(f"{run.folder} has no evaluation of its {which} adapter on {split}{why}; {way_out}")


def _is_of(found: SplitEvaluation, run: Run, which: str, split: str) -> bool:
    """Return whether an evaluation is of a run's own task as it is."""
    task = run.record.settings["task"]
    is_own = found["task"] == task.get("name") and found["where"] == (task.get("where") or {})
    is_plain = not found["perturbation"] and not found["mapping"]
    return is_own and is_plain and found["split"] == split and found["adapter"] == adapter_name(which)


def _unlike(found: SplitEvaluation, run: Run, which: str) -> str:
    """Return what an evaluation did otherwise than the run itself, which no seed of its arm may; nothing if nothing."""
    metric, here, own = run.record.scores["metric"], found["evaluation"], run.record.evaluation
    score = run.record.evaluated(which)
    if metric not in found["scores"]:
        return f"no {metric}"
    pairs = {
        "step": (found["step"], score.get("step") if score else None),  # it was trained further
        "max_length": (found["max_length"], run.record.settings.get("train", {}).get("max_length")),
        **{name: (here.get(name), own.get(name)) for name in ("labels", "positive", "answer_mode")},
    }
    if here.get("depends_on_batch"):
        pairs["batch_size"] = here.get("batch_size"), own.get("batch_size")
    known = {name: pair for name, pair in pairs.items() if None not in pair}
    return ", ".join(f"{name}: {one} instead of {other}" for name, (one, other) in known.items() if one != other)


def _rank(found: SplitEvaluation, run: Run) -> tuple[int, bool]:
    """Return what the evaluation has most of that is compared: rows, then the run's own size of a batch."""
    return found["rows_used"], found["evaluation"].get("batch_size") == run.record.evaluation.get("batch_size")


def _constant(predictions: Path, metric: str) -> dict[str, float]:
    """Return the accuracy of the most frequent label, which tells a seed that learned nothing."""
    labels: Sequence[object] = [row["label"] for row in read_rows(predictions)] if metric == "accuracy" else []
    if not labels or not all(isinstance(label, str) for label in labels):
        return {}
    return {metric: Counter(labels).most_common(1)[0][1] / len(labels)}
