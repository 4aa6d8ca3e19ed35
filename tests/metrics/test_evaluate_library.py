"""Metrics of `evaluate`: scripts of the form that its hub has, from a folder here; the hub itself is never asked."""

import json
import shutil
from pathlib import Path

import pytest
from support.runs import only_record

from molex_cli.cli import main
from molex_cli.config.task import Kind, Task
from molex_cli.config.task_metrics import Named, file_problems, problems, texts
from molex_cli.errors import ConfigError, MetricError
from molex_cli.objectives import outside

SCRIPT = """
import datasets
import evaluate


class {name}(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="",
            citation="",
            inputs_description="",
            features=datasets.Features({{"predictions": {predictions}, "references": {references}}}),
        )

    def _compute(self, predictions, references, {arguments}):
        {line}
"""
LABEL, TEXT = 'datasets.Value("int32")', 'datasets.Value("string")'
RIGHT = "return {'share': sum(p == r for p, r in zip(predictions, references)) / len(references)}"


@pytest.fixture(autouse=True, scope="session")
def _library_at_home(tmp_path_factory):
    """Let the library keep what it copies in a folder of the tests."""
    import evaluate

    home = tmp_path_factory.mktemp("evaluate")
    evaluate.config.HF_METRICS_CACHE, evaluate.config.HF_MODULES_CACHE = home / "metrics", home / "modules"


def script(name, line, predictions=LABEL, references=LABEL, arguments="**others"):
    """Write a metric as the hub has them, in a folder of its name; return the task's name of it."""
    folder = Path("scripts", name)
    folder.mkdir(parents=True, exist_ok=True)
    filled = SCRIPT.format(
        name=name.capitalize(), predictions=predictions, references=references, arguments=arguments, line=line
    )
    (folder / f"{name}.py").write_text(filled, encoding="utf-8")
    return f"evaluate/scripts/{name}"


def task(*names, **settings):
    named = {"metrics": list(names), "higher_is_better": list(names), **settings}
    return Task(**{"name": "t", "builtin": "nli", "columns": ["a"], **named})


def test_a_script_in_a_folder_scores_chooses_the_best_and_stands_in_the_record(capsys):
    name = script("share", RIGHT)
    named = [f"task.metrics=[{name},accuracy]", f"task.higher_is_better=[{name}]"]
    assert main(["train", "experiment=smoke", "method=lora", "log.wandb=disabled", *named]) == 0, capsys.readouterr()
    record, folder = only_record()
    scores = record["scores"]["last"]["scores"]
    assert scores[name] == scores["accuracy"]
    assert record["scores"]["constant"][name] == record["scores"]["constant"]["accuracy"]
    about = record["evaluation"]["metrics"][name]
    assert about["source"] == "scripts/share/share.py"
    assert (about["low"], about["high"], about["by_example"]) == (None, None, "jackknife")
    rows = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    right = [float(row["label"] == row["prediction"]) for row in rows]
    assert [row["values"][name] for row in rows] == pytest.approx(right)
    assert main(["eval", f"run={folder}", "train.max_rows=64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[0]["scores"][name] == scores[name]


def test_a_run_opens_without_its_script_and_nothing_of_that_name_is_got_from_the_hub(capsys, monkeypatch):
    name = script("gone", RIGHT)
    named = [f"task.metrics=[{name}]", f"task.higher_is_better=[{name}]"]
    assert main(["train", "experiment=smoke", "method=lora", "log.wandb=disabled", *named]) == 0, capsys.readouterr()
    _, folder = only_record()
    shutil.rmtree("scripts")
    Path("lines.txt").write_text("A cat sleeps.\tAn animal sleeps.\n")
    capsys.readouterr()
    assert main(["predict", f"run={folder}", "--file", "lines.txt"]) == 0, capsys.readouterr()
    assert "prediction" in json.loads(capsys.readouterr().out)
    monkeypatch.setattr(outside.evaluate_library, "_module", None)
    assert main(["eval", f"run={folder}"]) == 2
    assert "must pin the code of evaluate/scripts/gone" in capsys.readouterr().err


def test_arguments_reach_the_script_and_its_configuration():
    name = script("power", f"return {{'power': {RIGHT.partition(': ')[2][:-1]} ** power, 'name': self.config_name}}",
                  arguments="power=1")  # fmt: skip
    (metric,) = outside.metrics(task(name, metric_arguments={"power": 2, "config_name": "mrpc"}))
    assert metric.score([0, 1], [0, 0]) == 0.25


def test_of_several_scores_that_of_the_metrics_own_name_is_taken_or_the_one_that_is_named():
    name = script("both", "return {'both': 0.25, 'other': 0.75}")
    assert outside.metrics(task(name))[0].score([0], [0]) == 0.25
    assert outside.metrics(task(f"{name}@other"))[0].score([0], [0]) == 0.75
    unnamed = script("two", "return {'one': 0.25, 'other': 0.75}")
    with pytest.raises(ConfigError, match=r"got 2 scores; choose evaluate/scripts/two@KEY of one, other"):
        outside.require_working(task(unnamed), [0, 1])
    with pytest.raises(MetricError, match=r"got no third; choose evaluate/scripts/two@KEY of one, other"):
        outside.metrics(task(f"{unnamed}@third"))[0].score([0], [0])


def test_texts_go_one_by_one_or_with_all_their_references_as_the_script_declares():
    written = {"kind": Kind.generation}
    single = script("same", "return {'same': sum(p == r for p, r in zip(predictions, references)) / len(references)}",
                    TEXT, TEXT)  # fmt: skip
    lists = script("among", "return {'among': [float(p in r) for p, r in zip(predictions, references)]}",
                   TEXT, f"datasets.Sequence({TEXT})")  # fmt: skip
    same, among = outside.metrics(task(single, lists, **written))
    assert same.score(["a", "b"], [("a",), ("c",)]) == 0.5
    assert among.score(["a", "b"], [("c", "a"), ("b",)]) == 1.0
    assert outside.by_example(among, ["a", "b"], [("c", "a"), ("d",)]) == [1.0, 0.0]
    assert outside.by_example(same, ["a", "b"], [("a",), ("c",)]) == []
    with pytest.raises(MetricError, match="must get one reference for each text, got 2 for one"):
        same.score(["a"], [("a", "b")])


def test_a_script_that_is_broken_or_fails_is_one_line():
    broken = script("broken", "return 1 +")
    with pytest.raises(
        ConfigError, match="must be metrics that evaluate can load, got evaluate/scripts/broken: Syntax"
    ):
        outside.metrics(task(broken))
    fails = script("fails", "raise KeyError('x')")
    with pytest.raises(ConfigError, match=r"evaluate/scripts/fails must score predictions, got KeyError: 'x'"):
        outside.require_working(task(fails), [0, 1])


def test_without_the_hub_a_metric_of_it_is_one_line_with_the_way_out(monkeypatch):
    monkeypatch.setattr("requests.request", lambda **_: pytest.fail("the hub was asked"))
    with pytest.raises(ConfigError) as told:
        outside.metrics(task("evaluate/accuracy"))
    assert str(told.value) == (
        "task.metrics must be metrics that evaluate can load, got evaluate/accuracy: no connection to the hub and no "
        "copy in its cache; connect, or name a folder that holds its script: evaluate/PATH"
    )


def test_without_the_hub_the_librarys_cache_serves(monkeypatch):
    import evaluate

    monkeypatch.setattr("requests.request", lambda **_: pytest.fail("the hub was asked"))
    script("kept", RIGHT)
    place = evaluate.config.HF_MODULES_CACHE / "evaluate_modules/metrics/evaluate-metric--kept" / ("0" * 64)
    place.mkdir(parents=True)
    for folder in (place, place.parent):
        (folder / "__init__.py").touch()
    (place / "kept.py").write_text(Path("scripts/kept/kept.py").read_text(), encoding="utf-8")
    (metric,) = outside.metrics(task("evaluate/kept"))
    assert metric.score([0, 1], [0, 0]) == 0.5
    assert metric.source.endswith(", kept of the hub")
    assert metric.digest == "0" * 16


def test_what_the_library_does_not_say_must_be_set_and_foreign_code_be_pinned():
    plain = task("evaluate/f1", higher_is_better=[])
    (told,) = problems(plain)
    assert told.startswith(".higher_is_better or task.lower_is_better must have evaluate/f1, got it in neither")
    (told,) = problems(task("evaluate/f1", lower_is_better=["evaluate/f1"]))
    assert "got it in both" in told
    (told,) = file_problems(task("evaluate/somebody/f1"))
    assert told.startswith(".metric_arguments.revision must pin the code of evaluate/somebody/f1, which somebody put")
    assert not list(file_problems(task("evaluate/somebody/f1", metric_arguments={"revision": "abc"})))
    assert not list(file_problems(task(script("share", RIGHT))))
    (told,) = file_problems(task("evaluate/./scripts/shar"))
    assert told == (
        ".metrics must name a script of evaluate or its folder, got ./scripts/shar; there is no scripts/shar/shar.py"
    )
    (told,) = problems(task("accuracy", higher_is_better=["accuracy"]))
    assert told.startswith(".higher_is_better must be metrics of evaluate in task.metrics, got accuracy")
    told = next(problems(task("evaluate/", higher_is_better=[])))
    assert told.startswith(".metrics must name a metric of evaluate")


def test_the_text_of_a_local_script_tells_runs_apart_and_loads_no_library():
    name = script("share", RIGHT)
    (first,) = texts(task(name)).values()
    script("share", RIGHT.replace("==", "!="))
    assert texts(task(name)) != {name: first}
    assert texts(task("evaluate/accuracy")) == {}
    assert Named.of("evaluate/glue@f1") == ("glue", "f1")


def test_a_changed_script_is_loaded_anew():
    name = script("share", RIGHT)
    assert outside.metrics(task(name))[0].score([0], [0]) == 1.0
    script("share", RIGHT.replace("==", "!="))
    assert outside.metrics(task(name))[0].score([0], [0]) == 0.0
