"""Scores say which class they are of, fit their labels, and stand beside the best that a constant reaches."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.made_records import leave, table_of
from support.runs import only_record

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.compare.confounds import confounds
from molex_cli.compare.layout import heading
from molex_cli.config.task import Task
from molex_cli.metrics.base import compute_scores
from molex_cli.metrics.constant import best_constant
from molex_cli.statistics.pseudo_values import of_rows

FILES = ["experiment=smoke", "method=lora", "task=files", "task.columns=[text]"]
FILES += ["task.files.train=train.csv", "task.files.validation=dev.csv"]
CONSTANT = ["train.learning_rate=1e-9", "train.max_steps=1"]
TWO = {"abusive": 3, "normal": 9}
THREE = {"contradicts": 4, "entails": 4, "neutral": 4}


def write(train, dev=None):
    for name, counts in {"train.csv": train, "dev.csv": dev or train}.items():
        labels = [label for label, count in counts.items() for _ in range(count)]
        rows = "".join(f"{label} text {i},{label}\n" for i, label in enumerate(labels))
        Path(name).write_text("text,label\n" + rows)


def refused(capsys, *arguments):
    assert main([*arguments]) == 2
    return "".join(capsys.readouterr())


def test_f1_macro_is_the_mean_over_the_classes():
    three = [0, 1, 2] * 4
    assert compute_scores(["f1_macro"], [1] * 12, three) == {"f1_macro": pytest.approx(1 / 6)}
    metrics = pytest.importorskip("sklearn.metrics")
    stream = np.random.default_rng(0)
    for _ in range(20):
        said, given = stream.integers(0, 4, (2, 9)).tolist()
        expected = metrics.f1_score(given, said, average="macro", zero_division=0)
        assert compute_scores(["f1_macro"], said, given)["f1_macro"] == pytest.approx(expected)


def test_f1_is_that_of_the_positive_class_and_the_second_unless_it_is_set():
    given, said = [0, 0, 0, 1], [0, 0, 1, 1]
    assert compute_scores(["f1"], said, given)["f1"] == pytest.approx(2 / 3)
    assert compute_scores(["f1"], said, given, positive=0)["f1"] == pytest.approx(4 / 5)
    task = Task(name="t", builtin="nli", columns=["a"], metrics=["f1"], positive="abusive")
    assert task.positive_class(["abusive", "normal"]) == 0
    assert Task(name="t", builtin="nli", metrics=["f1"]).positive_label(["abusive", "normal"]) == "normal"
    assert Task(name="t", builtin="nli").positive_label(["abusive", "normal"]) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["task.labels=[a,b,c]", "task.metrics=[f1]"], "task.metrics must fit 3 labels, got f1 | use f1_macro"),
        (["task.labels=[a,b]", "task.metrics=[f1]", "task.positive=c"], "must be one of the labels a, b, got c"),
        (["task.positive=a"], "task.positive must be null where no metric is of one class, got a; add f1"),
        (["task.kind=regression", "task.metrics=[f1_macro]"], "metrics of kind=regression, got f1_macro"),
        (["task.kind=generation", "task.metrics=[matthews]", "task.language.prompt=x"], "got matthews"),
    ],
)
def test_a_metric_that_does_not_fit_the_settings_is_refused_at_once(settings, said, capsys):
    shown = refused(capsys, "train", *FILES, *settings)
    assert all(each in shown for each in said.split(" | ")), shown
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["task.metrics=[accuracy,f1]"], "task.metrics must fit 3 labels, got f1, which scores one class of two"),
        (["task.metrics=[f1]", "task.positive=entails"], "use f1_macro"),
    ],
)
def test_a_metric_that_does_not_fit_the_labels_of_the_rows_is_refused_before_the_model_loads(
    settings, said, capsys, monkeypatch
):
    write(THREE)
    monkeypatch.setattr(adapter, "load_backbone", lambda *a: pytest.fail("the model was loaded"))
    assert said in refused(capsys, "train", *FILES, *settings)


def test_a_run_names_its_labels_and_positive_class_and_every_command_scores_that_one(capsys, monkeypatch):
    write(TWO)
    settings = ["task.metrics=[f1,accuracy]", "task.positive=abusive", "train.learning_rate=0.02"]
    assert main(["train", *FILES, *settings]) == 0
    shown = capsys.readouterr().out
    record, folder = only_record()
    assert "labels             abusive 3, normal 9  positive abusive" in shown
    assert record["data"]["train"]["labels"] == TWO
    assert (record["evaluation"]["labels"], record["evaluation"]["positive"]) == (["abusive", "normal"], "abusive")
    rows = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    hits = sum(row["prediction"] == row["label"] == "abusive" for row in rows)
    own = 2 * hits / (3 + sum(row["prediction"] == "abusive" for row in rows))
    assert record["scores"]["last"]["scores"]["f1"] == pytest.approx(own)
    assert f"f1 of abusive {own:.4f} at the end" in shown
    assert record["scores"]["constant"] == {"f1": pytest.approx(6 / 15), "accuracy": 0.75}
    assert main(["eval", "--json", f"run={folder}"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["scores"] == record["scores"]["last"]["scores"]
    assert result["evaluation"]["positive"] == "abusive"
    assert main(["eval", f"run={folder}"]) == 0
    assert "f1 of abusive" in capsys.readouterr().out
    assert of_rows(rows, "f1", ["abusive", "normal"], "abusive").mean() == pytest.approx(own)
    table = table_of(Path("outputs"))
    assert heading(table, "files") == "files f1 of abusive % ↑"
    monkeypatch.setattr(adapter, "load_backbone", lambda *a: pytest.fail("the model was loaded"))
    other = ["task=files", *FILES[3:], "task.metrics=[f1]", "task.positive=neutral"]
    assert "task.positive must be one of the labels" in refused(capsys, "eval", f"run={folder}", *other)


def test_a_comparison_scores_the_positive_class_of_the_record():
    for method, share in (("lora", 0.6), ("mola", 0.9)):
        for seed in range(3):
            said = np.random.default_rng(seed).random(40) < share
            rows = [{"id": i, "label": "a", "prediction": "a" if each else "b"} for i, each in enumerate(said)]
            f1 = 2 * said.sum() / (said.sum() + 40)
            scores = {"step": 9, "epoch": 1.0, "scores": {"f1": float(f1)}}
            both = {"metric": "f1", "last": scores, "best": scores, "selection": ""}
            folder, scored = Path(f"outputs/{method}-{seed}"), {"labels": ["a", "b"], "positive": "a"}
            leave(folder, method, seed, scores=both, evaluation=scored, settings={"task": {"name": "t"}})
            records.write_rows(folder / "predictions-last.jsonl", rows)
    cell = table_of(Path("outputs")).cells["lora", "t"]
    assert cell.difference.over == "seeds and examples"


def test_a_column_of_two_positive_classes_says_which_arm_is_scored_by_which():
    for method, positive in (("lora", "a"), ("mola", "b")):
        leave(Path(f"outputs/{method}"), method, metric="f1", evaluation={"positive": positive})
    table = table_of(Path("outputs"))
    assert heading(table, "rte").startswith("rte f1 ")
    assert "classes that are scored differ in rte: a (LORA); b (MOLA)" in [note.text for note in confounds(table)]


def test_the_best_constant_is_that_of_the_scored_split_and_of_each_metric():
    given = [0] * 21 + [1] * 11
    found = best_constant(["accuracy", "f1", "f1_macro", "matthews"], given)
    assert found["accuracy"] == pytest.approx(21 / 32)
    assert found["f1"] == pytest.approx(22 / 43)  # of class 1, which is not the most frequent one
    assert found["f1_macro"] == pytest.approx(42 / 53 / 2)
    assert "matthews" not in found  # no constant has one
    assert best_constant(["f1"], given, positive=0)["f1"] == pytest.approx(42 / 53)
    assert best_constant(["pearson", "spearman"], [1.0, 2.0, 4.0]) == {}


def test_the_constant_of_a_run_knows_nothing_of_the_training_rows(capsys):
    write({"a": 9, "b": 3}, {"a": 11, "b": 21})
    assert main(["train", *FILES, *CONSTANT]) == 0
    assert only_record()[0]["scores"]["constant"] == {"accuracy": pytest.approx(21 / 32)}
    assert "best constant 0.6562" in capsys.readouterr().out
