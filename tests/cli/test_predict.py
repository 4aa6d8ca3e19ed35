"""What a saved run predicts for new rows: tables as in training, lines as they come, an answer to each."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from molex_cli.cli import main

ROWS = [(f"text {i}, quoted", "yes" if i % 3 else "no") for i in range(12)]
SMOKE = ["train", "experiment=smoke", "hardware.threads=1", "method=lora", "train.learning_rate=0.02", "task=files"]


def write(path, *, labelled=True):
    names = ["text", "label"] if labelled else ["text"]
    rows = [dict(zip(names, row, strict=False)) for row in ROWS]
    match path.suffix.lower():
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case ending:
            cut = "\t" if ending == ".tsv" else ","
            lines = [cut.join(['"' + row["text"] + '"', *([row["label"]] if labelled else [])]) for row in rows]
            path.write_text("\n".join([cut.join(names), *lines]) + "\n")
    return path


@pytest.fixture
def folder(tmp_path):
    write(Path("rows.csv"))
    files = ["task.columns=[text]", "task.files.train=rows.csv", "task.files.validation=rows.csv"]
    assert main([*SMOKE, *files]) == 0
    return next(Path("outputs").glob("*-s0"))


def answers(capsys, folder, *arguments, code=0):
    capsys.readouterr()
    assert main(["predict", f"run={folder}", *arguments]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_table_is_read_as_in_training_with_or_without_its_labels(folder, capsys):
    known = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    for name in ("new.csv", "new.tsv", "new.jsonl", "new.parquet", "NEW.CSV"):
        for labelled in (True, False):
            found = answers(capsys, folder, f"--file={write(Path(name), labelled=labelled)}")
            assert [each["row"] for each in found] == list(range(1, 13))
            assert [(each["prediction"], each["logits"]) for each in found] == [
                (each["prediction"], each["logits"]) for each in known
            ]
    for each in found:
        assert list(each["probabilities"]) == ["no", "yes"]
        assert sum(each["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert max(each["probabilities"], key=each["probabilities"].get) == each["prediction"]


def test_a_table_without_the_columns_is_refused_before_the_model_loads(folder, capsys, monkeypatch):
    from molex_cli.checkpoints import adapter

    monkeypatch.setattr(adapter, "load_backbone", lambda *a: pytest.fail("the model was loaded"))
    Path("new.csv").write_text("txt,label\na,yes\n")
    capsys.readouterr()
    assert main(["predict", f"run={folder}", "--file=new.csv"]) == 2
    said = capsys.readouterr().err
    assert "new.csv must have the columns text, got no text among txt, label; did you mean txt? name its" in said


@pytest.mark.parametrize("typed", [True, False])
def test_every_line_has_an_answer_with_its_number_and_braces_may_be_text(folder, capsys, monkeypatch, typed):
    text = 'one\n \n\nfour {name} called me\n{name} called me\n{"text": "six"}\n'
    Path("lines.txt").write_text(text)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    found = answers(capsys, folder, *([] if typed else ["--file=lines.txt"]))
    assert [each["line"] for each in found] == [1, 2, 3, 4, 5, 6]
    assert [each.get("error") for each in found] == [None, "the line is empty", "the line is empty", *[None] * 3]
    assert all(each["prediction"] in ("yes", "no") for each in found if "error" not in each)
    monkeypatch.setattr(sys, "stdin", io.StringIO("six\n"))
    (plain,) = answers(capsys, folder)
    assert plain["logits"] == pytest.approx(found[5]["logits"], abs=1e-5)


def test_a_bad_line_has_an_answer_too_and_ends_nothing(folder, capsys, monkeypatch):
    lines = 'one\n\n\nfour\tcells\n{"txt": "five"}\nsix\n'
    Path("six.txt").write_text(lines)
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    for arguments in ([], ["--file", "six.txt"]):
        capsys.readouterr()
        assert main(["predict", f"run={folder}", *arguments]) == 2
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [each["line"] for each in said] == [1, 2, 3, 4, 5, 6]
        assert ["prediction" in each for each in said] == [True, False, False, False, False, True]
        assert "line 4 must be text" in said[3]["error"]
        assert "line 5 must have text in its JSON object, got txt" in said[4]["error"]


def test_a_typed_line_is_answered_before_the_next_one_comes(folder):
    command = [sys.executable, "-m", "molex_cli", "predict", f"run={folder}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        for number in (1, 2):
            process.stdin.write(f"line {number}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["line"] == number
        process.stdin.close()
        assert process.wait() == 0


def test_typed_lines_leave_no_file_in_the_cache(folder, capsys, monkeypatch):
    before = sorted(Path(os.environ["MOLEX_CACHE"]).rglob("*"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("something private\n"))
    assert len(answers(capsys, folder)) == 1
    assert sorted(Path(os.environ["MOLEX_CACHE"]).rglob("*")) == before
