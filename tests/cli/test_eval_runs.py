"""Several saved runs, scored on a split and compared by these scores."""

import json
import shutil
from pathlib import Path

import pytest
from support.runs import working_in

from molex_cli.cli import main

SMOKE = ["train", "-m", "experiment=smoke", "hardware.threads=1", "train.learning_rate=0.02", "task=files"]
SPLITS = {"train": 16, "validation": 8, "test": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder in which two methods were trained with two seeds each."""
    folder = tmp_path_factory.mktemp("made")
    with working_in(folder):
        files = []
        for split, rows in SPLITS.items():
            lines = [f"{'good' if i % 3 else 'bad'} {i},{'yes' if i % 3 else 'no'}" for i in range(rows)]
            Path(f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
            files.append(f"task.files.{split}={split}.csv")
        task = ["task.name=mine", "task.columns=[text]", *files]
        assert main([*SMOKE, *task, "method=lora,bitfit", "seed=0,1"]) == 0
    return folder


@pytest.fixture
def runs(made, tmp_path):
    """Return the names of these runs, copied to where the test works."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return sorted(path.parent.name for path in Path("outputs").glob("*/record.json"))


def test_a_folder_of_runs_is_scored_a_line_for_each(runs, capsys):
    assert main(["eval", "outputs", "split=test"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == runs
    assert all("  mine test  accuracy 0." in line and "  12 rows" in line for line in lines)
    assert len(list(Path("outputs").glob("*/evaluations/mine-test-*.json"))) == len(runs)


def test_patterns_and_several_paths_are_runs_too_and_each_is_scored_once(runs, capsys):
    given = [f"run=outputs/*{runs[0][-4:]}", f"outputs/{runs[0]}", f"outputs/{runs[1]}/", "split=test"]
    assert main(["eval", *given, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len({each["run"] for each in found}) == len(found)
    assert {Path(each["run"]).name for each in found} >= set(runs[:2])
    assert main(["eval", "run=outputs/nothing*"]) == 2
    assert "run must be a path or a pattern of paths, got outputs/nothing*" in capsys.readouterr().err


def test_what_else_a_pattern_finds_beside_the_runs_fails_nothing_and_a_sweep_is_its_runs(runs, capsys):
    assert {"index.jsonl", "sweeps"} <= {path.name for path in Path("outputs").iterdir()}
    for given in ("outputs/*", "outputs/sweeps/*", str(next(Path("outputs/sweeps").iterdir()))):
        assert main(["eval", given, "split=test"]) == 0
        shown = capsys.readouterr()
        assert sorted(line.split()[0] for line in shown.out.splitlines()) == runs
        assert not shown.err
    assert main(["eval", "outputs/*.jsonl"]) == 2
    assert "got outputs/*.jsonl, which no run matches" in capsys.readouterr().err


def test_one_that_fails_or_has_not_finished_is_named_and_costs_the_others_nothing(runs, capsys):
    broken, going, *others = runs
    Path(f"outputs/{broken}/adapter-last.safetensors").write_text("broken")
    record = Path(f"outputs/{going}/record.json")
    record.write_text(record.read_text().replace('"status": "finished"', '"status": "interrupted"'))
    assert main(["eval", "run=outputs", "split=test"]) == 1
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == others
    assert f"left out: outputs/{going} is interrupted" in shown.err
    assert f"failed: outputs/{broken}: " in shown.err
    assert shown.err.endswith("1 of 3 runs failed; the others are scored\n")


def test_compare_reads_the_evaluations_of_a_split_and_names_runs_without_one(runs, capsys):
    assert main(["compare", "outputs", "--evaluation", "test"]) == 2
    shown = capsys.readouterr()
    assert (
        "--evaluation must name a split that runs were scored on, got test; molex eval outputs split=test" in shown.err
    )
    assert main(["eval", *(f"outputs/{name}" for name in runs[:3]), "split=test"]) == 0
    scored = {line.split()[0]: float(line.split("accuracy ")[1][:6]) for line in capsys.readouterr().out.splitlines()}
    assert main(["compare", "outputs", "--evaluation", "test", "--format", "json"]) == 0
    shown = capsys.readouterr()
    assert f"left out: outputs/{runs[3]} has no evaluation of its last adapter on test" in shown.err
    report = json.loads(shown.out)
    found = [score for cell in report["cells"] for score in cell["by_seed"].values()]
    assert sorted(round(each, 4) for each in found) == sorted(scored.values())
    assert any("on test as molex eval scored it" in note["text"] for note in report["notes"])
    assert report["effects"][0]["detail"].startswith("over examples of one seed")


def test_an_evaluation_of_other_input_or_of_fewer_rows_is_not_compared(runs, capsys):
    assert main(["eval", "outputs", "split=test", "train.max_rows=4"]) == 0
    assert main(["eval", "outputs", "split=test", "characters=[0.5]"]) == 0
    assert main(["eval", "outputs", "split=test"]) == 0
    capsys.readouterr()
    assert main(["compare", "outputs", "--evaluation", "test", "--format", "json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert all(score * 12 == pytest.approx(round(score * 12)) for cell in cells for score in cell["by_seed"].values())
    for file in Path("outputs").glob("*/evaluations/*-predictions.jsonl"):
        file.write_text("{")
    assert main(["compare", "outputs", "--evaluation", "test"]) == 2
