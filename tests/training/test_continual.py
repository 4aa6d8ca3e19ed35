"""Continual learning: the definitions on the paper's own table, and stages learned one after the other."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.runs import only_record, sequence

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.data.reading import read
from molex_cli.metrics.continual import backward_transfer, overall_performance, performance_drop
from molex_cli.training import continual

# MoLA, table 6: row = trained up to, columns = biology, physics, chemistry, economics, earth science.
INVERTED = [
    [94.96, 66.67, 61.34, 66.67, 61.54],
    [91.69, 88.54, 52.10, 77.38, 63.08],
    [87.91, 91.15, 94.12, 72.62, 66.15],
    [87.15, 86.98, 94.12, 86.90, 61.54],
    [88.16, 91.67, 90.76, 89.29, 89.23],
]
LORA = [
    [92.19, 61.46, 55.46, 60.71, 52.31],
    [88.16, 89.58, 55.46, 72.62, 61.54],
    [85.14, 81.77, 93.28, 59.52, 58.46],
    [78.84, 78.13, 70.59, 73.81, 38.46],
    [84.13, 77.08, 87.39, 78.57, 66.15],
]
PLAIN = ["task=files", "task.columns=[a,b]", "task.label=label"]


@pytest.mark.parametrize(("matrix", "op", "pd"), [(INVERTED, 89.82, -0.47), (LORA, 78.67, -2.17)])
def test_op_and_pd_are_those_of_the_paper(matrix, op, pd):
    assert overall_performance(matrix) == pytest.approx(op, abs=0.01)
    assert performance_drop(matrix) == pytest.approx(pd, abs=0.02)
    # PD telescopes: with five tasks it is two fifths of the backward transfer.
    assert performance_drop(matrix) == pytest.approx(backward_transfer(matrix) * 2 / 5)


def test_a_model_that_forgets_nothing_has_no_drop():
    matrix = [[0.9, 0.2], [0.9, 0.8]]
    assert (performance_drop(matrix), backward_transfer(matrix)) == (0.0, 0.0)
    assert overall_performance(matrix) == pytest.approx(0.85)


@pytest.mark.parametrize(
    "settings", [["model=tiny_llama", "method=mola_inverted"], ["model=tiny_bert", "method=molex"]]
)
def test_science_qa_is_learned_topic_by_topic(official_data, capsys, settings):
    short = ["train.max_rows=4", "train.max_steps=2", "train.max_length=200", "log.wandb=disabled", "hardware=cpu"]
    assert main(["train", "task=continual/science_qa", *settings, *short, f"data_dir={official_data}"]) == 0
    record, folder = only_record()
    topics = ["biology", "physics", "chemistry", "economics", "earth_science"]
    scores = record["scores"]
    assert scores["stages"] == topics
    assert [len(row) for row in scores["matrix"]] == [5] * 5
    assert scores["last"]["scores"] == pytest.approx(
        {
            "accuracy": overall_performance(scores["matrix"]),
            "performance_drop": performance_drop(scores["matrix"]),
            "backward_transfer": backward_transfer(scores["matrix"]),
        }
    )
    assert record["training"]["steps"] == 10
    assert record["checks"]["reload"]["passed"] is True
    assert {name.split("/")[0] for name in record["data"]} == set(topics)
    assert record["data"]["chemistry/train"]["rows"] == 31
    rows = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == [topic for topic in topics for _ in range(4)]
    assert main(["eval", "--json", f"run={folder}", "train.max_rows=4"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [each["where"]["topic"].replace("-", "_") for each in again] == topics
    assert [each["scores"]["accuracy"] for each in again] == scores["matrix"][-1]
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, 11))
    assert sum(event["event"] == "evaluated" for event in events) == 25


def test_any_list_of_tasks_is_a_sequence_of_stages_and_adapters_are_carried_on():
    assert main(sequence("one", "two")) == 0
    record, folder = only_record()
    assert record["scores"]["stages"] == ["one", "two"]
    _, carried = adapter.load(folder / "adapter-last.safetensors")
    files = ["task.files.train=two.csv", "task.files.validation=two.csv"]
    assert main(["train", "experiment=smoke", "method=lora", "train.learning_rate=0.02", *PLAIN, *files]) == 0
    alone = next(path.parent for path in Path("outputs").glob("*/record.json") if path.parent != folder)
    _, fresh = adapter.load(alone / "adapter-last.safetensors")
    tensors = zip(carried.trainable().values(), fresh.trainable().values(), strict=True)
    assert any(not torch.equal(one, other) for one, other in tensors)


def test_stages_of_unequal_labels_are_refused(capsys):
    assert main(sequence("one", "two", labels=("no yes", "false true"))) == 2
    said = "".join(capsys.readouterr())
    assert "stages must be of one kind, got classification by head of no, yes, scored by accuracy in one" in said
    assert "classification by head of false, true, scored by accuracy in two" in said


def test_a_sequence_whose_task_is_of_another_kind_than_its_stages_is_refused(capsys):
    assert main([*sequence("one", "two"), "task.kind=regression", "task.metrics=[pearson]"]) == 2
    said = "".join(capsys.readouterr())
    assert "task must be answered as its stages are, got classification by head and regression by head" in said


def test_one_stage_alone_is_refused_before_anything_runs(capsys):
    assert main(sequence("one")) == 2
    assert "stages must be two or more, got one alone" in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_rows_that_a_filter_keeps_have_the_ids_of_their_places_in_the_file(experiment, official_data):
    task = experiment("task=science_qa", "task.where.topic=physics").task
    split = read(task, official_data)[0]["train"]
    lines = (Path(official_data) / "science_qa/train.jsonl").read_text().splitlines()
    places = [number for number, line in enumerate(lines) if json.loads(line)["topic"] == "physics"]
    assert split.ids == [f"train:{place}" for place in places]


def test_a_filter_that_keeps_no_row_is_said(capsys):
    sequence("one", "two")
    files = ["task.files.train=one.csv", "task.files.validation=one.csv"]
    assert main(["train", "experiment=smoke", "method=lora", *PLAIN, *files, "task.where.a=nothing"]) == 2
    assert "the train split must have rows with a=nothing, got none in one.csv" in "".join(capsys.readouterr())


def test_an_undefined_stage_counts_by_convention_in_the_mean():
    stage = SimpleNamespace(experiment=SimpleNamespace(task=SimpleNamespace(metrics=["matthews"])))
    undefined = SimpleNamespace(metric="matthews", stages=[stage], matrix=[[0.5, math.nan], [math.nan, 0.4]])
    assert continual._defined(undefined) == [[0.5, 0.0], [0.0, 0.4]]
