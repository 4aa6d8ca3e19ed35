"""One file of rows becomes training, validation and test rows: stratified, the same for all seeds, never one in two."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molex_cli.cli import main
from molex_cli.config import command_line, overrides
from molex_cli.config.task import Files, Kind, Task
from molex_cli.data import division
from molex_cli.data.reading import about_all, read, read_all, read_split
from molex_cli.errors import ConfigError, DataError

SHARES = [0.8, 0.1, 0.1]


def task(path="all.csv", shares=SHARES, seed=0, **settings) -> Task:
    files = Files(train=str(path), split=list(shares), split_seed=seed)
    return Task(name="own", files=files, **{"columns": ["text"], "label": "kind", **settings})


def write(labels, path="all.csv", texts=None):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "kind"])
        writer.writerows(zip(texts or [f"text {i}" for i in range(len(labels))], labels, strict=True))


def divided(labels, shares, seed=0, texts=None):
    rows = {i: {"text": f"text {i}" if texts is None else texts[i], "kind": each} for i, each in enumerate(labels)}
    return division.parts(task(shares=shares, seed=seed), rows, "rows"), rows


@given(
    st.lists(st.integers(20, 60), min_size=1, max_size=4),
    st.sampled_from([[0.8, 0.1, 0.1], [0.9, 0.1], [0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]),
    st.integers(0, 5),
)
def test_every_row_is_in_one_split_and_every_label_has_its_share_of_each(counts, shares, seed):
    labels = [f"label {i}" for i, count in enumerate(counts) for _ in range(count)]
    found, _ = divided(labels, shares, seed)
    assert sorted(n for numbers in found.values() for n in numbers) == list(range(len(labels)))
    assert list(found) == ["train", "validation", "test"][: len(shares)]
    for numbers, share in zip(found.values(), shares, strict=True):
        assert numbers == sorted(numbers)
        assert abs(len(numbers) - share * len(labels)) <= 1
        for i, count in enumerate(counts):
            assert abs(sum(labels[n] == f"label {i}" for n in numbers) - share * count) <= 2


def test_a_rare_label_is_in_every_split_and_rows_of_the_same_text_are_in_one():
    labels = ["rare"] * 3 + ["often"] * 97
    found, _ = divided(labels, SHARES)
    assert [sum(labels[n] == "rare" for n in numbers) for numbers in found.values()] == [1, 1, 1]
    texts = [f"text {i // 4}" for i in range(100)]
    found, rows = divided(["a", "b"] * 50, SHARES, texts=texts)
    sides = [{rows[n]["text"] for n in numbers} for numbers in found.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 25


def test_numbers_and_texts_to_write_are_divided_without_classes():
    rows = {i: {"text": f"t{i}", "kind": str(i / 7)} for i in range(50)}
    for kind, metric in ((Kind.regression, "pearson"), (Kind.generation, "bleu")):
        of_kind = task(kind=kind, metrics=[metric])
        assert list(map(len, division.parts(of_kind, rows, "rows").values())) == [40, 5, 5]
        assert "stratified" not in division.described(of_kind, {"train": [1]}, "rows")


def test_the_splits_of_a_file_are_read_told_and_fingerprinted():
    write(["yes", "no"] * 50)
    splits, labels = read(task(), None)
    test = read_split(task(), "test", None, labels)
    assert [len(each.ids) for each in (*splits.values(), test)] == [80, 10, 10]
    assert not {name.partition(":")[2] for name in splits["train"].ids} & {i.partition(":")[2] for i in test.ids}
    told = "rows of all.csv are split into train 80, validation 10, test 10"
    assert splits["train"].about()["division"].startswith(told)
    other, _ = read(task(seed=1), None)
    assert other["validation"].fingerprint != splits["validation"].fingerprint


def experiment_of(*settings):
    own = ("task=files", "task.files.train=all.csv", "task.columns=[text]", "task.label=kind")
    return overrides.checked(command_line.CommandLine(overrides=["experiment=smoke", *own, *settings]))


def test_seeds_share_the_rows_and_the_shares_are_part_of_the_arm():
    from molex_cli.config.run_id import run_name

    write(["yes", "no"] * 50)
    one, other = (experiment_of("task.files.split=[0.8,0.2]", f"seed={seed}") for seed in (0, 1))
    assert about_all(read_all(one)) == about_all(read_all(other))
    assert run_name(one).removesuffix("-s0") == run_name(other).removesuffix("-s1")
    arms = [experiment_of(f"task.files.split={shares}") for shares in ("[0.9,0.1]", "[0.8,0.2]")]
    arms.append(experiment_of("task.files.split=[0.8,0.2]", "task.files.split_seed=1"))
    assert len({run_name(arm) for arm in arms}) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("task.files.split=[0.8,0.3]", "two or three shares above 0 that add up to 1.*got [0.8, 0.3]"),
        ("task.files.split=[1.0]", "two or three shares"),
        ("task.files.split=[]", "two or three shares"),
        ("task.files.split=[0.9,0.2,-0.1]", "shares above 0"),
        ("task.files.split=[0.4,0.3,0.2,0.1]", "two or three shares"),
        ("task.files.split=[0.9,0.1] task.files.validation=b.csv", "task.files.validation must be null where"),
        ("task.files.split=[0.9,0.1] task.files.test=b.csv", "task.files.test must be null where"),
        ("task.files.split=[0.9,0.1] task.files.train=null", "must go with a file of your own"),
        ("task.files.split_seed=3 task.files.validation=b.csv", "must go with task.files.split, got 3 alone"),
        ("task.official.split=[0.9,0.1] task.files.validation=b.csv", "task.official.split must be left out"),
        ("task.label=kind", r"task.files.split=[0.8,0.1,0.1] takes some of the training file"),
    ],
)
def test_shares_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ConfigError) as error:
        experiment_of(*settings.split())
    assert re.search(said.replace("[0", r"\[0"), str(error.value))


def test_what_a_file_cannot_give_is_refused_in_one_line():
    write(["yes"] * 50 + ["no"] * 2)
    with pytest.raises(
        DataError, match=r"each of 3 splits a row of every label, got in all.csv too few .*: 2 of no; add"
    ):
        read(task(), None)
    write(["1.0", "2.0"], "few.csv")
    with pytest.raises(DataError, match=r"each of 3 splits a row, got 2 of different texts in few.csv"):
        read(task("few.csv", kind=Kind.regression, metrics=["pearson"]), None)
    with pytest.raises(DataError, match=r"must have a third share for a test split, got \[0.5, 0.5\]"):
        read_split(task(shares=[0.5, 0.5]), "test", None, ["no", "yes"])
    write(["yes", "no"] * 20 + [""])
    with pytest.raises(DataError, match="must have a value in kind in every row, got none in row 41"):
        read(task(), None)


COLUMNS = "among text, kind"
WRONG = {
    "task.label=knd": f"got no knd {COLUMNS}; did you mean kind?",
    "task.columns=[sentence]": f"got no sentence {COLUMNS}; set task.columns and task.label",
    "task.labels=[yes,maybe]": "must have a label of yes, maybe, got 'no'",
    "task.positive=ja task.metrics=[f1]": "task.positive must be one of the labels no, yes, got ja",
}


@pytest.mark.parametrize("many", ["", "-m seed=0,1"], ids=["one run", "a sweep"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_column_or_label_is_one_line_and_nothing_is_loaded_or_left(wrong, many):
    write(["yes", "no"] * 20)
    given = ["experiment=smoke", "task=files", "task.files.train=all.csv", "task.files.split=[0.8,0.2]"]
    code = (
        "import sys\nfrom molex_cli.cli import main\ncode = main()\n"
        "print(*({'torch', 'transformers'} & set(sys.modules)))\nsys.exit(code)"
    )
    own = ["task.columns=[text]", "task.label=kind", *wrong.split(), *many.split()]
    own = [
        each for n, each in enumerate(own) if each.partition("=")[0] not in {o.partition("=")[0] for o in own[n + 1 :]}
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MOLEX_DATA": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *given, *own], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert WRONG[wrong] in done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search("^(torch|transformers)", done.stdout, re.MULTILINE)
    assert not list(Path("outputs").iterdir())


def test_a_run_on_a_divided_file_has_a_name_and_says_the_split(capsys):
    write(["yes", "no"] * 40)
    given = ["experiment=smoke", "task=files", "task.files.train=all.csv", "task.columns=[text]", "task.label=kind"]
    named = ["task.name=mail", 'method.display_name="LoRA (ours)"', "method=lora", "log.wandb=disabled"]
    assert main(["train", *given, *named, "task.files.split=[0.8,0.1,0.1]"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("rows of all.csv are split into train 64, validation 8, test 8") == 1
    (folder,) = Path("outputs").glob("mail-lora-*")
    assert main(["eval", f"run={folder}", "split=test"]) == 0
    capsys.readouterr()
    assert main(["compare", "outputs"]) == 0
    shown = capsys.readouterr().out
    assert "LoRA (ours)" in shown
    assert "mail" in shown


def add_row(text):
    with open("all.csv", "a", encoding="utf-8") as file:
        file.write(text)


def test_a_saved_run_is_scored_on_the_division_that_it_was_trained_on_or_on_none(capsys):
    write(["yes", "no"] * 40)
    own = ["task=files", "task.files.train=all.csv", "task.columns=[text]", "task.label=kind"]
    divided = ["task.files.split=[0.8,0.1,0.1]", "train.selection=0.2", "train.max_rows=50"]
    assert main(["train", "experiment=smoke", *own, *divided, "method=lora", "log.wandb=disabled"]) == 0
    (folder,) = Path("outputs").glob("files-lora-*")
    assert main(["eval", f"run={folder}", "split=test"]) == 0
    again = ["task.files.split=[0.8,0.1,0.1]"]
    assert main(["eval", f"run={folder}", "split=test", *own, *again, "train.eval_batch_size=4"]) == 0
    before = {path: path.read_bytes() for path in (folder / "evaluations").iterdir()}
    capsys.readouterr()
    for other in ("task.files.split_seed=1", "+task.where.kind=yes", "task.files.split=[0.7,0.2,0.1]"):
        given = [*own, *again, other] if "split=" not in other else [*own, other]
        assert main(["eval", f"run={folder}", "split=test", *given]) == 2
        assert "divide all.csv as the run did" in capsys.readouterr().err
    add_row("one more,yes\n")
    for split in ("test", "validation"):
        assert main(["eval", f"run={folder}", f"split={split}"]) == 2
        told = capsys.readouterr().err
        assert "all.csv must have the rows that were divided" in told
        assert "Traceback" not in told
    assert {path: path.read_bytes() for path in (folder / "evaluations").iterdir()} == before
    (folder / "record.json").unlink()
    assert main(["eval", f"run={folder}/adapter-last.safetensors", "split=test"]) == 0
    assert "whether all.csv is the same is not known" in capsys.readouterr().err
