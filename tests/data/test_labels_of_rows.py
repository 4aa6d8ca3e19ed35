"""A row without a label is no class of its own: it is refused by its number, in every format and kind of task."""

import json
import math
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from molex_cli.cli import main
from molex_cli.config.task import Files, Kind, Language, Task
from molex_cli.data.reading import read, read_labels, read_split
from molex_cli.errors import DataError

LABELS = ["late", "on time", None, "late", "  ", "on time"]
KINDS = {
    Kind.classification: {},
    Kind.regression: {"metrics": ["pearson"]},
    Kind.generation: {"metrics": ["bleu"], "language": Language(prompt="{a}")},
    Kind.multiple_choice: {"choices": "choices"},
}


def task(path, kind=Kind.classification, **settings):
    files = Files(train=str(path), validation=str(path))
    return Task(name="files", kind=kind, files=files, columns=["a"], **KINDS[kind], **settings)


def write(path, labels):
    rows = [{"a": f"text {i}", "choices": ["late", "on time"], "label": label} for i, label in enumerate(labels)]
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case _:
            cut = "\t" if path.suffix == ".tsv" else ","
            lines = [f"{row['a']}{cut}{row['label'] or ''}" for row in rows]
            path.write_text("\n".join([f"a{cut}label", *lines]) + "\n")
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_label_are_refused_by_their_numbers(ending, kind):
    if kind is Kind.multiple_choice and ending in ("csv", "tsv"):
        pytest.skip("no lists in delimited text")
    path = write(Path(f"rows.{ending}"), LABELS)
    said = rf"rows.{ending} must have a value in label in every row, got none in rows 3 and 5; fill it in"
    with pytest.raises(DataError, match=said):
        read(task(path, kind), None)
    with pytest.raises(DataError, match=said):
        read_split(task(path, kind), "validation", None, ["late", "on time"])


def test_not_a_number_is_no_label():
    path = write(Path("rows.jsonl"), [0.0, 1.0, math.nan, 1.0])
    with pytest.raises(DataError, match="got none in row 3;"):
        read(task(path), None)
    with pytest.raises(DataError, match="got none in row 3;"):
        read(task(path, labels=["0.0", "1.0"]), None)
    Path("texts.jsonl").write_text('{"a": NaN, "label": "x"}\n{"a": "b", "label": "y"}\n')
    with pytest.raises(DataError, match="row 1 must have a value in a, got NaN"):
        read(task("texts.jsonl"), None)


def test_of_many_rows_the_first_are_named_and_all_are_counted():
    path = write(Path("rows.csv"), ["x", "y", *[None] * 40])
    with pytest.raises(DataError, match=r"got none in 40 rows: 3, 4, 5, .*, 14, \.\.\.;"):
        read(task(path), None)


def test_blanks_around_a_label_make_no_second_class():
    path = write(Path("rows.tsv"), ["late", "on time", "late ", "late "])
    said = "must have labels without blanks around them, got 'late ' in rows 3 and 4; take the blanks away"
    with pytest.raises(DataError, match=said):
        read(task(path), None)
    with pytest.raises(DataError, match=r"row 3 must have a label of late, on time, got 'late '"):
        read(task(path, labels=["late", "on time"]), None)


def test_a_bad_row_has_its_number_in_the_file_though_others_are_left_out():
    path = write(Path("rows.csv"), ["x", "y", " x", "y"])
    with pytest.raises(DataError, match="got ' x' in row 3;"):
        read(task(path, where={"a": "text 2"}), None)


def test_a_plan_counts_the_labels_of_the_rows(capsys):
    write(Path("rows.csv"), ["a", "b", "c", "d", "e"] * 2)
    files = ["task=files", "task.columns=[a]", "task.files.train=rows.csv", "task.files.validation=rows.csv"]
    heads = []
    for labels in ([], ["task.labels=[a,b,c,d,e]"], ["task.labels=[a,b]"]):
        assert main(["plan", "--json", "experiment=smoke", "method=lora", *files, *labels]) == 0
        heads.append(json.loads(capsys.readouterr().out)["parameters"]["head"])
    assert heads[0] == heads[1] == heads[2] / 2 * 5
    assert read_labels(task("rows.csv"), None) == list("abcde")
    Path("rows.csv").unlink()
    assert main(["plan", "experiment=smoke", "method=lora", *files]) == 2
    assert "task.files.train names rows.csv, which does not exist" in capsys.readouterr().err
