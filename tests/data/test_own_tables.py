"""Files as newcomers have them: they are read as they are meant, or refused in one line that says what to do."""

from pathlib import Path

import pytest

from molex_cli.config.task import Files, Kind, Task
from molex_cli.data.reading import read
from molex_cli.errors import DataError, MolexError

SAME = [("one, two", "yes"), ('say "hi"', "no"), ("line\nbreak", "yes"), ("", "no")]


def rows_of(content: bytes, name="rows.csv", **settings):
    Path(name).write_bytes(content)
    task = Task(name="own", files=Files(train=name, validation=name), columns=["text"], label="kind", **settings)
    split = read(task, None)[0]["train"]
    return [
        (text, split.names[label] if split.names else label)
        for (text,), label in zip(split.texts, split.labels, strict=True)
    ]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('text,kind\n"one, two",yes\n"say ""hi""",no\n"line\nbreak",yes\n,no\n', "rows.csv"),
        ('\ufefftext;kind\n"one, two";yes\n"say ""hi""";no\n"line\nbreak";yes\n;no\n', "rows.csv"),
        ('text\tkind\none, two\tyes\n"say ""hi"""\tno\n"line\nbreak"\tyes\n\tno\n', "rows.csv"),
        ('"text";"kind"\n"one, two";"yes"\n"say ""hi""";"no"\n"line\nbreak";"yes"\n"";"no"\n', "rows.CSV"),
        ('text,kind\r\n"one, two",yes\r\n"say ""hi""",no\r\n"line\nbreak",yes\r\n,no\r\n', "rows.csv"),
    ],
    ids=["commas", "semicolons and a mark", "tabs", "all quoted", "carriage returns"],
)
def test_what_spreadsheets_write_is_read_as_it_is_meant(content, name):
    assert rows_of(content.encode(), name) == SAME


def test_a_semicolon_in_a_header_with_commas_or_in_rows_without_a_header_divides_nothing():
    assert rows_of(b"text,kind,a;b\none;two,yes,1\nthree,no,2\n") == [("one;two", "yes"), ("three", "no")]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"text,kind\na,yes\nb,yes\n", "rows.csv", "two or more labels in kind, got ['yes']"),
        (b"", "rows.csv", "split must have rows, got none in rows.csv"),
        (b"text,kind\n", "rows.csv", "split must have rows, got none in rows.csv"),
        (b"PK\x03\x04rest", "rows.xlsx", "must end in .csv, .tsv, .jsonl, .parquet, got rows.xlsx; save it as csv"),
        (b"PK\x03\x04\xff", "rows.csv", "must be a csv file, got: a spreadsheet or another zip file; save it as csv"),
        ("text,kind\né,yes\n".encode("latin-1"), "rows.csv", "got byte 0xe9 in line 2; save it as UTF-8"),
        ("text,kind\na,yes\n".encode("utf-16"), "rows.csv", "must be UTF-8, got byte 0xff in line 1; save it as UTF-8"),
        (b"text, kind\na,yes\nb,no\n", "rows.csv", "got no kind among text, ' kind'; did you mean  kind?"),
        (b"text,kind\na,b,yes\n", "rows.csv", "3 cells in line 2 where the header has 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_to_do(content, name, said):
    with pytest.raises(MolexError) as error:
        rows_of(content, name)
    assert all(said in line for line in str(error.value).splitlines())


def test_labels_that_are_numbers_are_classes_where_few_and_the_way_to_regression_where_many():
    few = "text,kind\n" + "".join(f"t{i},{i % 3}.0\n" for i in range(30))
    assert {label for _, label in rows_of(few.encode())} == {"0.0", "1.0", "2.0"}
    many = ("text,kind\n" + "".join(f"t{i},{i / 7}\n" for i in range(200))).encode()
    with pytest.raises(DataError, match=r"few labels in kind, got 200 .* for numbers set task.kind=regression"):
        rows_of(many)
    assert rows_of(many, kind=Kind.regression, metrics=["pearson"])[7] == ("t7", 1.0)
