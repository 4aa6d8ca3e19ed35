"""A metric of one's own is one file that a task names: run before the training, scored, compared without being run."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from support.runs import only_record

from molex_cli import records
from molex_cli.cli import main
from molex_cli.compare.loading import load
from molex_cli.config.task import Kind, Task
from molex_cli.config.task_metrics import metric_of
from molex_cli.errors import ConfigError
from molex_cli.metrics.base import METRICS, ByExample, Metric
from molex_cli.objectives import outside
from molex_cli.statistics.pseudo_values import of_rows

COST = '''"""What mistakes cost."""

from molex_cli.metrics.base import metric


@metric("classification", higher_is_better=False, high=5.0)
def cost(predictions, references):
    """Return what each mistake costs: five times as much where class 1 is missed."""
    return [5.0 * (p < r) + 1.0 * (p > r) for p, r in zip(predictions, references, strict=True)]
'''
SPREAD = """
from molex_cli.metrics.base import metric


@metric("regression", higher_is_better=False, high=float("inf"))
def root_error(predictions, references):
    return (sum((p - r) ** 2 for p, r in zip(predictions, references)) / len(references)) ** 0.5
"""
NAMED = ["task.metrics=[cost,accuracy]", "task.metric_files=[cost.py]"]
TRAIN = ["train", "experiment=smoke", "method=lora", "log.wandb=disabled"]


def made(text, name="cost.py"):
    """Write a file of metrics; return a task that names its first one."""
    Path(name).write_text(text, encoding="utf-8")
    return Task(name="t", builtin="nli", columns=["a"], metrics=["cost"], metric_files=[name])


def body(line, kinds='"classification"'):
    return COST.replace('"classification"', kinds).partition("    return [")[0] + f"    {line}\n"


def test_a_score_for_each_example_is_their_mean_and_one_number_gives_pseudo_values():
    (each,) = outside.metrics(made(COST))
    assert each.score([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(1.5)
    assert outside.by_example(each, [0, 0, 1, 1], [0, 1, 0, 1]) == [0.0, 5.0, 1.0, 0.0]
    task = made(body("return sum(p != r for p, r in zip(predictions, references)) / len(references)"))
    (whole,) = outside.metrics(task)
    assert whole.by_example is ByExample.jackknife
    assert outside.by_example(whole, [0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx([0.0, 1.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def cost(:\n", "cost.py, line 1, must be Python, got: "),
        ("import nothing_of_that_name\n", "cost.py, line 1 must run, got ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)\n", "cost.py, line 1 must run, got SystemExit: 3"),
        ("COST = 3\n", "cost.py must have a function under @metric(KIND), got none"),
        (COST.replace("cost(", "accuracy("), "a metric must have a name of its own, got a second accuracy"),
        (COST.replace("def cost", "def costs"), "task.metrics must be metrics that there are, got cost; did you mean"),
        (COST.replace("classification", "regression"), "must be metrics of kind=classification, got cost of cost.py"),
        (COST.replace("high=5.0", "high=5.0, of_one_class=True"), "cost must not be of_one_class"),
        (None, "a metric's file must be one of Python, got cost.py (No such file or directory)"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_before_anything_loads(text, complaint, capsys):
    if text is not None:
        made(text)
    assert main([*TRAIN, "task.metrics=[cost]", "task.metric_files=[cost.py]"]) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert "Traceback" not in said.err
    assert "reading" not in said.out
    assert not Path("outputs").exists()
    assert "cost" not in METRICS


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("return 1 / 0", "cost must score predictions, got ZeroDivisionError: division by zero (cost.py, line 9)"),
        ("return None", "cost must return a number, or one for each example, got nothing"),
        ('return "0.5"', "cost must return a number, or one for each example, got a str"),
        ("return [1.0]", "cost must return a number, or one for each example, got 1 for 32 examples"),
        ("return float('inf')", "cost must return finite numbers, or NaN where it is undefined, got inf"),
    ],
)
def test_a_metric_that_cannot_score_is_refused_before_there_is_a_run(line, complaint, capsys):
    made(body(line))
    assert main([*TRAIN, "task.metrics=[cost]", "task.metric_files=[cost.py]"]) == 2
    assert f"task.metrics must work on 32 rows that are right, got: {complaint}" in capsys.readouterr().err
    assert not list(Path("outputs").rglob("record.json"))


def test_numbers_of_numpy_and_torch_are_numbers():
    for line in ("return numpy.float32(0.5)", "return numpy.array([0, 1])", "return torch.tensor(0.5)"):
        task = made(body(f"import numpy, torch; {line}"))
        (metric,) = outside.metrics(task)
        assert metric.score([0, 1], [0, 0]) == pytest.approx(0.5)
        assert isinstance(metric.score([0, 1], [0, 0]), float)


def test_two_metrics_of_one_name_and_a_file_that_nobody_asked_for_are_refused(capsys):
    made(COST)
    made(COST, "again.py")
    assert main([*TRAIN, "task.metrics=[cost]", "task.metric_files=[cost.py,again.py]"]) == 2
    assert "a metric must have a name of its own, got a second cost; rename one of them" in capsys.readouterr().err
    assert main([*TRAIN, "task.metric_files=[cost.py]"]) == 2
    assert "task.metric_files must be files of metrics in task.metrics, got cost.py; add cost there" in (
        capsys.readouterr().err
    )


def test_a_file_is_run_again_once_its_text_is_another():
    assert outside.metrics(made(COST))[0].score([0], [1]) == 5.0
    assert outside.metrics(made(COST.replace("5.0 *", "7.0 *")))[0].score([0], [1]) == 7.0


def test_arguments_reach_the_function_and_those_it_does_not_take_are_told():
    task = made(COST.replace("references):", "references, missed=5.0):").replace("5.0 * (p", "missed * (p"))
    task.metric_arguments = {"missed": 2.0}
    assert outside.metrics(task)[0].score([0], [1]) == 2.0
    task.metric_arguments = {"missed": 2.0, "cost": {"missed": 3.0}}
    assert outside.metrics(task)[0].score([0], [1]) == 3.0
    task.metric_arguments = {"mised": 2.0}
    with pytest.raises(ConfigError, match=r"got TypeError: cost\(\) got an unexpected keyword argument 'mised'"):
        outside.require_working(task, [0, 1])


def test_a_task_of_ones_own_names_a_metric_of_ones_own_and_runs_are_compared_without_its_file(capsys):
    made(COST)
    folder = Path("mine/task")
    folder.mkdir(parents=True)
    base = "defaults: [/task/builtin/nli@_here_, _self_]\n"
    folder.joinpath("priced.yaml").write_text(f"{base}metrics: [cost]\nmetric_files: [cost.py]\n", encoding="utf-8")
    command = ["-cd", "mine", "-m", "task=priced", "method=lora,head", "seed=0,1", "isolate=false"]
    assert main([*TRAIN, *command]) == 0, capsys.readouterr().err
    Path("cost.py").unlink()
    runs = load([Path("outputs")], "last").runs
    assert len(runs) == 4
    for run in runs:
        _, values = run.values("last", "cost")
        assert values.mean() == pytest.approx(run.score("last"))
    capsys.readouterr()
    assert main(["compare", "outputs", "--format", "json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert {(each["difference"] or {}).get("over") for each in cells} == {None, "seeds and examples"}
    assert main(["compare", "outputs", "--format", "md"]) == 0
    assert "cost ↓" in capsys.readouterr().out


def test_a_metric_that_fails_after_the_training_costs_neither_predictions_nor_record(capsys):
    fails = "if any(p != r for p, r in zip(predictions, references)): raise ValueError('no mistakes, please')\n    "
    made(body(f"{fails}return 0.0"))
    assert main([*TRAIN, *NAMED]) == 0
    record, folder = only_record()
    assert record["status"] == "finished"
    assert record["scores"]["last"]["scores"]["cost"] is None
    assert record["scores"]["last"]["scores"]["accuracy"] > 0
    assert len(records.read_rows(folder / "predictions-last.jsonl")) == 64
    assert "cost failed: cost must score predictions, got ValueError: no mistakes, please" in record["degenerate"][-1]
    assert "once it is mended, molex eval scores the run again" in capsys.readouterr().out
    assert main(["compare", "outputs"]) == 2
    assert "has no score: cost failed" in capsys.readouterr().err
    Path("cost.py").unlink()
    assert main(["eval", f"run={folder}"]) == 2
    assert "a metric's file must be one of Python, got cost.py" in capsys.readouterr().err
    made(COST)
    assert main(["eval", f"run={folder}"]) == 0
    assert main(["compare", "outputs", "--evaluation", "validation", "--format", "md"]) == 0
    assert "cost ↓" in capsys.readouterr().out


def test_the_same_command_with_another_text_of_its_metric_is_another_run(capsys):
    made(COST)
    assert main([*TRAIN, *NAMED]) == 0
    assert main([*TRAIN, *NAMED]) == 0
    assert len(list(Path("outputs").glob("*/record.json"))) == 1
    made(COST.replace("5.0 *", "4.0 *"))
    assert main([*TRAIN, *NAMED]) == 0
    assert "is another run of this name (text of cost: " in capsys.readouterr().out
    assert len(list(Path("outputs").glob("*/record.json"))) == 2


def test_a_metric_of_numbers_and_one_of_texts_get_them_as_they_are():
    Path("root.py").write_text(SPREAD, encoding="utf-8")
    named = {"metrics": ["root_error"], "metric_files": ["root.py"]}
    task = Task(name="t", builtin="x", kind=Kind.regression, columns=["a"], **named)
    assert not list(task.file_problems())
    (metric,) = outside.metrics(task)
    assert metric.score([1.0, 2.0], [1.0, 4.0]) == pytest.approx(2**0.5)
    stream = np.random.default_rng(0)
    rows = [{"id": i, "label": float(i), "prediction": i + stream.normal()} for i in range(30)]
    said, given = [row["prediction"] for row in rows], [row["label"] for row in rows]
    values = outside.by_example(metric, said, given)
    assert np.mean(values) == pytest.approx(metric.score(said, given))
    kept = [{**row, "values": {"root_error": value}} for row, value in zip(rows, values, strict=True)]
    assert of_rows(kept, "root_error").tolist() == values
    written = made(body("return [p in r for p, r in zip(predictions, references)]", '"generation"'))
    written.kind = Kind.generation
    assert outside.metrics(written)[0].score(["a", "b"], [("a", "c"), ("a", "d")]) == 0.5
    outside.require_working(written, [("a", "c"), ("a", "d")])


def test_what_a_record_says_of_a_metric_is_the_metric_without_its_function():
    metric = metric_of(made(COST), "cost")
    kept = json.loads(records.as_json(metric.as_data()))
    again = Metric.from_data("cost", kept)
    assert (again.higher_is_better, again.low, again.high, again.undefined) == (False, 0.0, 5.0, 5.0)
    assert (again.source, again.digest) == ("cost.py", metric.digest)
    unbounded = Metric(name="x", function=len, kinds=(), low=-math.inf, high=math.inf)
    assert Metric.from_data("x", json.loads(records.as_json(unbounded.as_data()))).high == math.inf


FILE = ["task=files", "task.files.train=rows.jsonl", "task.files.validation=rows.jsonl", "task.columns=[text]"]


@pytest.mark.parametrize(
    ("kind", "line", "settings"),
    [
        ("regression", "return [abs(p - r) for p, r in zip(predictions, references)]", []),
        (
            "generation",
            "return [float(p not in r) for p, r in zip(predictions, references)]",
            ["model=tiny_llama", "task.language.prompt='{text}'", "task.language.max_new_tokens=3"],
        ),
    ],
)
def test_runs_on_numbers_and_on_texts_are_scored_by_a_metric_of_ones_own(kind, line, settings, capsys):
    answers = {"regression": 0.5, "generation": "a b"}
    rows = [json.dumps({"text": f"row {i}", "label": answers[kind]}) for i in range(8)]
    Path("rows.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    made(body(line, f'"{kind}"'))
    named = [f"task.kind={kind}", "task.metrics=[cost]", "task.metric_files=[cost.py]"]
    assert main([*TRAIN, *FILE, *named, *settings]) == 0, capsys.readouterr().err
    record, folder = only_record()
    kept = records.read_rows(folder / "predictions-last.jsonl")
    values = of_rows(kept, "cost")
    assert values.mean() == pytest.approx(record["scores"]["last"]["scores"]["cost"])
    if kind == "regression":
        assert values == pytest.approx([abs(row["prediction"] - row["label"]) for row in kept])
        assert record["scores"]["constant"]["cost"] == 0.0
    else:
        assert values.tolist() == [float(row["prediction"] not in row["label"]) for row in kept]
