"""Records and comparisons as tables of pandas: the numbers of `molex compare`, and what it shows."""

import csv
import io
import math
from pathlib import Path

import pytest
from support.made_records import leave, outputs

import molex_cli
from molex_cli.cli import main
from molex_cli.errors import ConfigError, RecordError


@pytest.fixture
def folder():
    outputs(lora=0.6, mola=0.7)
    return "outputs"


def test_the_frame_has_the_cells_of_the_csv_and_the_scores_by_seed(folder, capsys):
    found = molex_cli.compare_runs(folder)
    assert main(["compare", folder, "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(found.frame.columns) == [*lines[0], "by_seed"]
    assert list(found.frame["row"]) == [line["row"] for line in lines] == ["lora", "mola"]
    assert list(found.frame["mean"]) == pytest.approx([float(line["mean"]) for line in lines])
    assert list(found.frame["trainable"]) == [1000, 1000]
    assert sorted(found.frame["by_seed"][0]) == [0, 1, 2]
    assert found.table.rows == ["lora", "mola"]


def test_differences_have_an_interval_and_a_verdict(folder):
    (row,) = molex_cli.compare_runs(folder, against="lora").differences.to_dict("records")
    assert (row["one"], row["other"]) == ("MOLA", "LORA")
    assert row["low"] <= row["estimate"] <= row["high"]
    assert 0 <= row["p"] <= 1
    assert row["seeds"] == 3
    assert row["verdict"]
    assert math.isfinite(row["detectable"])


def test_it_shows_itself_as_the_command_does_and_in_a_notebook_as_markdown(folder, capsys):
    found = molex_cli.compare_runs([Path(folder)], rows=["method"], cols="task,model")
    assert main(["compare", folder]) == 0
    assert repr(found) == capsys.readouterr().out
    assert found._repr_markdown_() == found.text("md")
    assert "| LORA |" in found.text("md")
    assert found.verdicts == found.report.answers
    assert found.figure("scores.svg") == Path("scores.svg")
    assert Path("scores.svg").read_text().startswith("<?xml")


def test_what_cannot_be_shown_is_refused(folder):
    found = molex_cli.compare_runs(folder)
    with pytest.raises(ConfigError, match=r"format must be one of csv, html, .* got xlsx"):
        found.text("xlsx")
    with pytest.raises(
        ConfigError, match="a figure must be one of differences, scores, curves, rates, got score; did you"
    ):
        found.figure("scores.svg", kind="score")
    with pytest.raises(ConfigError, match="--against must be one of the rows, got loar; did you mean lora"):
        molex_cli.compare_runs(folder, against="loar")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: molex_cli.read_records([]), "paths must name folders of runs, got an empty list"),
        (lambda: molex_cli.compare_runs(()), "paths must name folders of runs, got an empty list"),
        (lambda: molex_cli.compare_runs("x", tuning_seeds="1000"), r"a list of seeds, got '1000'; write \[1000\]"),
        (lambda: molex_cli.plan("method=lora", fit=24), "fit must be a size above 0 such as 24GB"),
        (lambda: molex_cli.plan(["method=lora"]), r"settings must be texts such as 'seed=1', got \['method=lora'\]"),
    ],
)
def test_arguments_of_another_type_are_refused_as_mistakes(call, said):
    with pytest.raises(ConfigError, match=said):
        call()


def test_runs_that_are_not_compared_are_listed(folder):
    leave(Path("outputs/lora-s9"), "lora", 9, status="failed")
    assert molex_cli.compare_runs(folder).left_out == ["outputs/lora-s9 is failed"]


def test_records_are_a_row_each_whatever_became_of_the_run(folder):
    error = {"type": "DataError", "message": "no rows", "traceback": ""}
    leave(Path("outputs/lora-s9"), "lora", 9, status="failed", error=error)
    found = molex_cli.read_records(folder).set_index("folder")
    assert len(found) == 7
    assert dict(found["status"].value_counts()) == {"finished": 6, "failed": 1}
    assert found.loc["outputs/lora-s9", "error"] == "no rows"
    row = found.loc["outputs/mola-s1"]
    assert (row["method"], row["task"], row["model"], row["seed"]) == ("mola", "rte", "minilm", 1)
    assert row["last.accuracy"] == row["best.accuracy"]
    assert row["parameters.trainable"] == 1000
    assert row["training.seconds"] == 40.0
    assert row["method.learning_rate"] == 1e-3
    assert not found.columns.duplicated().any()


def test_a_damaged_record_is_a_warning_beside_the_others_and_an_error_alone(folder):
    Path("outputs/lora-s0/record.json").write_text("{")
    with pytest.warns(UserWarning, match=r"outputs/lora-s0/record.json .*damaged") as told:
        assert len(molex_cli.read_records(folder)) == 5
    assert told[0].filename == __file__
    with pytest.raises(RecordError, match="damaged"):
        molex_cli.read_records("outputs/lora-s0")
