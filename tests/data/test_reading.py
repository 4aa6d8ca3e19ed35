"""Rows come out as they were written, with stable ids and labels."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from molex_cli.config.task import Files, Hub, Quoting, Task
from molex_cli.data.reading import read
from molex_cli.errors import DataError
from molex_cli.models.hub import repositories

ROWS = [("a cat", "an animal", "yes"), ('say "hi"', "a, b", "no"), ("naïve café", "x\ty", "yes"), ("one", "two", "no")]


def task(train, validation=None, **settings) -> Task:
    quoting = settings.pop("quoting", Quoting.auto)
    files = Files(train=str(train), validation=str(validation or train), quoting=quoting)
    return Task(name="files", files=files, columns=["a", "b"], label="label", **settings)


def write(path, rows=ROWS):
    names = ("a", "b", "label")
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
        case ".parquet":
            columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
            pyarrow.parquet.write_table(pyarrow.table(columns), path)
        case _:
            import csv

            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([names, *rows])
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, ending):
    splits, labels = read(task(write(tmp_path / f"rows.{ending}")), None)
    assert labels == ["no", "yes"]
    assert splits["train"].texts == [(a, b) for a, b, _ in ROWS]
    assert splits["train"].labels == [1, 0, 1, 0]
    assert splits["train"].ids == ["train:0", "train:1", "train:2", "train:3"]
    assert splits["validation"].ids[0] == "validation:0"


def test_the_fingerprint_depends_on_content_and_not_on_format(tmp_path):
    prints = {
        read(task(write(tmp_path / f"rows.{ending}")), None)[0]["train"].fingerprint for ending in ("csv", "parquet")
    }
    assert len(prints) == 1
    changed = write(tmp_path / "changed.csv", [*ROWS[:3], ("one", "two!", "no")])
    assert read(task(changed), None)[0]["train"].fingerprint not in prints


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write(tmp_path / "rows.csv")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(task(path), None)[0]["train"].texts[0] == ("a cat", "an animal")


def test_stray_quotes_in_a_tsv_merge_no_rows(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('a\tb\tlabel\n"half a quote\tb1\t0\nplain\tb2\t1\n"whole" and more\tb3\t0\nlast\t"b4\t1\n')
    splits, _ = read(task(path), None)
    assert [text[0] for text in splits["train"].texts] == ['"half a quote', "plain", '"whole" and more', "last"]


def test_quoting_can_be_insisted_on(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('a\tb\tlabel\n"quoted"\tb1\t0\nplain\tb2\t1\n')
    assert read(task(path), None)[0]["train"].texts[0][0] == "quoted"
    assert read(task(path, quoting=Quoting.none), None)[0]["train"].texts[0][0] == '"quoted"'


def test_labels_may_be_names_or_class_indices(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b,label\nx,y,0\nx,z,1\n")
    splits, labels = read(task(path, labels=["entailment", "not_entailment"]), None)
    assert splits["train"].labels == [0, 1]
    assert labels == ["entailment", "not_entailment"]


def test_max_rows_takes_a_fixed_sample_that_keeps_its_ids(tmp_path):
    path = write(tmp_path / "rows.csv", [(f"a{i}", f"b{i}", str(i % 2)) for i in range(50)])
    one, again = (read(task(path), None, max_rows=10)[0]["train"] for _ in range(2))
    whole = read(task(path), None)[0]["train"]
    assert one == again
    assert (len(one.ids), one.num_rows) == (10, 50)
    assert all(whole.texts[whole.ids.index(key)] == text for key, text in zip(one.ids, one.texts, strict=True))


def test_the_official_rte_files_have_the_official_rows(official_data):
    rte = Task(
        name="glue/rte",
        hub=Hub(path="nyu-mll/glue", subset="rte"),
        official=Files(train="glue/RTE/train.tsv", validation="glue/RTE/dev.tsv", quoting=Quoting.none),
        columns=["sentence1", "sentence2"],
        labels=["entailment", "not_entailment"],
    )
    splits, _ = read(rte, official_data)
    assert {name: len(split.ids) for name, split in splits.items()} == {"train": 2490, "validation": 277}
    assert [splits["train"].labels.count(label) for label in (0, 1)] == [1249, 1241]
    assert [splits["validation"].labels.count(label) for label in (0, 1)] == [146, 131]


def test_the_hub_gives_the_ids_of_the_files(tmp_path, monkeypatch):
    """The hub cannot be reached in tests: its client is given a data set of the same rows instead."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "a": datasets.Value("string"),
            "b": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    columns = {"a": [r[0] for r in ROWS], "b": [r[1] for r in ROWS], "label": [r[2] for r in ROWS]}
    hub = datasets.Dataset.from_dict(columns, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, subset, split, revision: hub)
    monkeypatch.setattr(repositories, "at", lambda source: repositories.Found("c" * 40))
    there = Task(name="t", hub=Hub(path="some/set"), columns=["a", "b"], labels=["no", "yes"])
    here = task(write(tmp_path / "rows.csv"), labels=["no", "yes"])
    assert read(there, None)[0]["train"].fingerprint == read(here, None)[0]["train"].fingerprint


def test_an_unknown_builtin_is_an_error():
    with pytest.raises(DataError, match=r"task\.builtin must be a built-in task, got other; choose nli"):
        read(Task(name="x", builtin="other", columns=["a"]), None)
