"""What a newcomer types wrongly in the first hour: each is answered by a sentence that names the way out."""

from pathlib import Path

import pytest

from molex_cli.cli import main

FILES = ["task=files", "task.columns=[text]", "task.label=label", "task.files.split=[0.8,0.1,0.1]", "model=tiny_bert"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --hlep", "the arguments must be those that --help lists, got: --hlep; did you mean --help?"),
        ("train log.wandb=off", "got 'off'; did you mean disabled?"),
        ("train log.wandb=none", "got 'none'; did you mean disabled?"),
        ("train task.name=δοκιμή", "got task.name=δοκιμή; write 'task.name=\"δοκιμή\"'"),
        ("train model=bert-base-uncased", "; or model=folder model.folder=DIR for a downloaded one"),
        ("plan method=lora,molex", "method must be one value, got lora,molex; molex train -m takes several"),
        (
            "compare . --format latx",
            "--format must be one of csv, html, json, latex, md, table, got latx",
        ),
        ("compare . --output", "--output must be followed by one value"),
        ("compare . --outptu a", "got: --outptu a; did you mean --output?"),
        ("compare rows.csv", "rows.csv is not the record of a run, or is damaged: "),
        ("compare . --figure score a.pdf", "--figure must name a file such as scores.pdf, got score; one of scores, "),
        ("bench --dropout x", "--dropout must be a number, got 'x'"),
        ("predict outputs/a outputs/b", "one run must be named here, got outputs/a and outputs/b; leave one out"),
        ("eval outputs/a splt=test", "splt is no setting; did you mean split?"),
        (
            "predict outputs/a file=new.csv",
            "file is a flag of molex predict and no setting; did you mean --file new.csv?",
        ),
        ("push outputs/a --repo ada/a --dry-run b", "outputs/a does not exist; name the folder of a run, such as"),
        ("bench --rounds x", "--rounds must be a whole number, got 'x'"),
        (
            "merge run=outputs/a --output b",
            "molex: outputs/a does not exist; name the folder of a run, such as",
        ),
    ],
)
def test_the_answer_names_the_way_out(line, said, capsys):
    Path("rows.csv").write_text("text,label\n")
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert said in err
    assert not any(word in err for word in ("Traceback", "Exception", "argument --", "invalid choice"))


def test_the_quotes_that_are_told_are_taken(capsys):
    assert main(["train", 'task.name="δοκιμή"', "--cfg", "job", "-p", "task"]) == 0
    assert "name: δοκιμή" in capsys.readouterr().out


def test_a_folder_in_the_place_of_rows_is_said_to_be_one(capsys):
    assert main(["train", *FILES, "task.files.train=."]) == 2
    assert "task.files.train names ., which is a folder; name a file in it" in capsys.readouterr().err


def test_jobs_for_slurm_are_refused_where_there_is_none_before_one_is_prepared(monkeypatch, capsys):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PATH", "")
    assert main(["train", "-m", "experiment=smoke", "hardware=slurm", "seed=0,1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "hardware=slurm must be started where Slurm's commands are, got no srun; log in to the cluster" in line
    assert not Path("outputs").exists()
