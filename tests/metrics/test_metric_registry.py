"""A metric is one file: its properties say where it may be used and how models are compared by it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.added_files import added
from support.made_records import leave, table_of

from molex_cli import metrics, records
from molex_cli.cli import main
from molex_cli.compare import formats
from molex_cli.compare.layout import Report
from molex_cli.errors import ConfigError
from molex_cli.metrics.base import METRICS, ByExample, Metric, metric, metric_named
from molex_cli.metrics.regression import pearson, spearman
from molex_cli.statistics.pseudo_values import of_rows

BALANCED_ACCURACY = '''"""Balanced accuracy: every class counts the same, however many examples it has."""

from collections.abc import Sequence

from molex_cli.metrics.base import ByExample, metric


@metric("classification", by_example=ByExample.jackknife)
def balanced_accuracy(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Return the mean over classes of the share of a class's examples that are predicted as it."""
    pairs = list(zip(predictions, references, strict=True))
    found = [[p == r for p, r in pairs if r == label] for label in sorted(set(references))]
    return sum(sum(each) / len(each) for each in found) / len(found)
'''
ABSOLUTE_ERROR = '''"""Mean absolute error."""

import math

from molex_cli.metrics.base import ByExample, metric


@metric("regression", higher_is_better=False, high=math.inf, by_example=ByExample.mean)
def absolute_error(predictions: list[float], references: list[float]) -> float:
    """Return the mean absolute difference of prediction and reference."""
    return sum(abs(p - r) for p, r in zip(predictions, references, strict=True)) / len(references)
'''

ERROR_RATE = '''"""Error rate."""

from molex_cli.metrics.base import ByExample, metric


@metric("classification", higher_is_better=False, by_example=ByExample.mean)
def error_rate(predictions: list[int], references: list[int]) -> float:
    """Return the share of predictions that are wrong."""
    return sum(p != r for p, r in zip(predictions, references, strict=True)) / len(references)
'''


@pytest.fixture
def added_metric(tmp_path, request):
    """Register a metric from a file of its own, for one test."""
    name, text = request.param
    with added(metrics, name, text, tmp_path / "added"):
        yield name
    METRICS.pop(name)


@pytest.mark.parametrize("added_metric", [("balanced_accuracy", BALANCED_ACCURACY)], indirect=True)
def test_a_metric_in_a_file_of_its_own_chooses_the_best_and_is_compared(added_metric, capsys):
    setting = f"task.metrics=[{added_metric},accuracy]"
    assert main(["train", "-m", "experiment=smoke", setting, "method=lora,head", "seed=0,1", "isolate=false"]) == 0
    for path in Path("outputs").glob("*/*/record.json"):
        assert json.loads(path.read_text())["scores"]["metric"] == added_metric
    capsys.readouterr()
    assert main(["compare", "outputs", "--format", "json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["cells"]
    assert first["metric"] == second["metric"] == added_metric
    assert {(each["difference"] or {}).get("over") for each in (first, second)} == {None, "seeds and examples"}
    assert main(["train", "experiment=smoke", "task.metrics=[balanced]"]) == 2
    assert "got balanced; did you mean balanced_accuracy?" in capsys.readouterr().err


@pytest.mark.parametrize("added_metric", [("absolute_error", ABSOLUTE_ERROR)], indirect=True)
def test_of_a_metric_that_is_better_low_the_lowest_arm_is_the_best_everywhere(added_metric, capsys):
    stream = np.random.default_rng(0)
    for method, error in (("lora", 0.9), ("mola", 0.3)):
        for seed in range(3):
            label = np.arange(40) / 10
            said = label + stream.normal(0, error, 40)
            rows = [{"id": i, "label": label[i], "prediction": said[i]} for i in range(40)]
            scores = {"step": 9, "epoch": 1.0, "scores": {added_metric: float(np.abs(said - label).mean())}}
            both = {"metric": added_metric, "last": scores, "best": scores, "selection": ""}
            folder = Path(f"outputs/{method}-{seed}")
            leave(folder, method, seed, scores=both, settings={"task": {"name": "rte", "labels": None}})
            records.write_rows(folder / "predictions-last.jsonl", rows)
    table = table_of(Path("outputs"))
    cell = table.cells["lora", "rte"]
    assert table.cells["mola", "rte"].is_best
    assert cell.difference.over == "seeds and examples"
    assert cell.difference.interval.estimate == pytest.approx(cell.mean - table.cells["mola", "rte"].mean)
    assert main(["compare", "outputs", "--cols", "task", "--format", "md"]) == 0
    assert "rte absolute_error ↓" in capsys.readouterr().out
    assert "absolute_error" in formats.text("html", Report(table))


@pytest.mark.parametrize("added_metric", [("error_rate", ERROR_RATE)], indirect=True)
def test_the_best_checkpoint_is_that_of_the_lowest_score_where_low_is_better(added_metric):
    falls_and_rises = ["method=bitfit", "train.learning_rate=0.1", "train.max_steps=12", "train.evaluate_every=2"]
    assert main(["train", "experiment=smoke", f"task.metrics=[{added_metric}]", *falls_and_rises]) == 0
    (path,) = Path("outputs").rglob("record.json")
    scores = json.loads(path.read_text())["scores"]
    events = map(json.loads, path.with_name("events.jsonl").read_text().splitlines())
    found = [event["scores"][added_metric] for event in events if event["event"] == "evaluated" and event["step"] > 0]
    assert scores["best"]["scores"][added_metric] == min(found)
    assert min(found) < min(found[0], found[-1])
    assert scores["selection"].startswith("the best is the lowest error_rate on validation")


def test_importing_the_metrics_registers_all_and_loads_no_library_of_theirs():
    code = (
        "import sys\nfrom molex_cli.metrics.base import METRICS\n"
        "names = 'accuracy f1 f1_macro matthews bleu nist rouge_l meteor cider pearson spearman'\n"
        "assert list(METRICS) == names.split()\n"
        "assert not {'torch', 'scipy', 'sklearn', 'sacrebleu', 'rouge_score'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_name_is_registered_once_and_an_unknown_one_is_refused_with_a_hint():
    with pytest.raises(ConfigError, match="a metric must have a name of its own, got a second accuracy"):

        @metric("classification")
        def accuracy(predictions, references):
            return 0.0

    with pytest.raises(ConfigError, match=r"got acuracy; did you mean accuracy\?"):
        metric_named("acuracy")


def test_the_rank_correlation_is_the_correlation_of_mean_ranks():
    from scipy.stats import rankdata

    stream = np.random.default_rng(0)
    for count in (2, 3, 10, 200):
        first, second = stream.integers(0, 6, (2, count)).astype(float) + np.array([[0.0], [0.5]])
        first[:2], second[:2] = (0, 1), (1, 3)  # neither is constant
        expected = pearson(rankdata(first).tolist(), rankdata(second).tolist())
        assert spearman(first.tolist(), second.tolist()) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert np.isnan(spearman([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]))


def test_values_by_example_have_the_score_as_their_mean():
    labels = ["no", "yes"]
    rows = [{"label": labels[i % 2], "prediction": labels[i % 3 == 0]} for i in range(12)]
    for name in ("accuracy", "f1", "matthews"):
        said, given = ([labels.index(row[key]) for row in rows] for key in ("prediction", "label"))
        assert of_rows(rows, name, labels).mean() == pytest.approx(METRICS[name].function(said, given))
    assert METRICS["bleu"].by_example is ByExample.no
    assert of_rows(rows, "bleu") is None
    assert of_rows(rows, "unknown") is None
    assert of_rows([], "accuracy") is None


@pytest.mark.parametrize("by_example", [ByExample.mean, ByExample.jackknife])
def test_scores_of_texts_can_have_values_by_example_too(monkeypatch, by_example):
    def exact_match(texts, references):
        return sum(text in some for text, some in zip(texts, references, strict=True)) / len(texts)

    described = Metric(name="exact_match", function=exact_match, kinds=("generation",), by_example=by_example)
    monkeypatch.setitem(METRICS, "exact_match", described)
    rows = [{"label": ["a", "b"], "prediction": said} for said in ("a", "b", "c", "a")]
    assert of_rows(rows, "exact_match") == pytest.approx([1.0, 1.0, 0.0, 1.0])


def test_an_answer_by_letter_or_none_at_all_is_right_or_wrong():
    rows = [{"label": "A", "prediction": "A"}, {"label": "B", "prediction": None}, {"label": "C", "prediction": "A"}]
    assert of_rows(rows, "accuracy", ["yes", "no"]).tolist() == [1.0, 0.0, 0.0]
