"""Small inputs of one's own, as they come: each is used rightly, or refused in a line that says what to change."""

import json
import re
from pathlib import Path

import pytest

from molex_cli.cli import main
from molex_cli.records import Record, read_record

SMOKE = ["train", "experiment=smoke", "method=bitfit", "train.max_steps=1", "train.epochs=1", "task=files"]


def train(file: str, *settings: str, validation: str | None = None) -> list[str]:
    files = [f"task.files.train={file}", f"task.files.validation={validation or file}"]
    return [*SMOKE, *files, "task.columns=[text]", *settings]


def only_record() -> Record:
    (path,) = Path("outputs").glob("*/record.json")
    return read_record(path)


def no_run() -> bool:
    return not list(Path().glob("outputs/*/*"))


def table(*rows: str) -> str:
    return "\n".join(["text,label", *rows]) + "\n"


def test_rows_without_a_label_are_refused_by_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    good = [f"item {i},{'late' if i % 2 else 'on time'}" for i in range(24)]
    Path("a.csv").write_text(table(*good, "no verdict,", "another,   "))
    assert main(train("a.csv")) == 2
    shown = capsys.readouterr().err
    assert re.search(r"\b25\b.*\b26\b", shown)
    assert "label" in shown
    assert no_run()


def test_f1_of_three_labels_is_refused_and_that_of_all_classes_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text(table(*(f"{each} {i},{each}" for i in range(8) for each in ("a", "b", "c"))))
    assert main(train("a.csv", "task.metrics=[f1,accuracy]")) == 2
    assert "f1_macro" in capsys.readouterr().err
    assert no_run()
    assert main(train("a.csv", "task.metrics=[f1_macro,accuracy]")) == 0
    assert only_record().scores["constant"]["f1_macro"] == pytest.approx(1 / 6)


@pytest.mark.parametrize(("positive", "constant"), [("normal", 2 * 35 / 75), ("abusive", 2 * 5 / 45)])
def test_the_class_that_f1_is_of_is_named_and_can_be_set(
    positive: str, constant: float, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"note {i},{'normal' if i < 35 else 'abusive'}" for i in range(40)]
    Path("a.csv").write_text(table(*rows))
    assert main(train("a.csv", "task.metrics=[f1,accuracy]", f"task.positive={positive}")) == 0
    shown = capsys.readouterr().out
    assert positive in next(line for line in shown.splitlines() if "f1" in line)
    assert only_record().scores["constant"]["f1"] == pytest.approx(constant)


def test_every_line_has_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text(table(*(f"item {i},{'x' if i % 2 else 'y'}" for i in range(8))))
    assert main(train("a.csv")) == 0
    (folder,) = Path("outputs").glob("files-*")
    Path("lines.txt").write_text("one\n \n\nfour {name} called me\n")
    capsys.readouterr()
    main(["predict", f"run={folder}", "--file", "lines.txt"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["line"] for answer in answers] == [1, 2, 3, 4]
    assert answers[3]["prediction"] in ("x", "y")


@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_llama"])
def test_an_empty_text_is_a_text(model: str) -> None:
    rows = [{"text": "", "label": "a"}, {"text": "words", "label": "b"}, {"text": "more words", "label": "a"}]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(train("a.jsonl", f"model={model}", "method=lora", "train.batch_size=1", "train.eval_batch_size=1")) == 0
    (folder,) = Path("outputs").glob("files-*")
    assert main(["predict", f"run={folder}", "--file", "a.jsonl"]) == 0
    assert main(["eval", f"run={folder}", "train.eval_batch_size=1"]) == 0


def test_words_that_yaml_takes_for_truth_values_are_to_be_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text(table(*(f"question {i},{'yes' if i % 2 else 'no'}" for i in range(8))))
    Path("mine/task").mkdir(parents=True)
    yaml = """# @package task
defaults: [/schema/task@_here_, _self_]
name: yes_no
files: {train: a.csv, validation: a.csv}
columns: [text]
labels: [%s]
"""
    command = [*SMOKE[:-1], "-cd", "mine", "task=yes_no"]
    Path("mine/task/yes_no.yaml").write_text(yaml % "no, yes")
    assert main(command) == 2
    assert "task.labels must be texts, got no (YAML's false)" in capsys.readouterr().err
    assert no_run()
    Path("mine/task/yes_no.yaml").write_text(yaml % '"no", "yes"')
    assert main(command) == 0


def test_brackets_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (f"{name} wrote {i}\t{label}\n" for i in range(4) for name, label in (("{name}", "x"), ("[/INST]", "y")))
    Path("a.tsv").write_text("text\tlabel\n" + "".join(rows))
    assert main(train("a.tsv", 'task.name="a [/INST]"')) == 0
    assert "a [/INST]" in capsys.readouterr().out
    assert main(["compare", "outputs"]) == 0
    assert "a [/INST]" in capsys.readouterr().out


GENERATION = [
    "experiment=smoke",
    "method=lora",
    "model=tiny_llama",
    "train.max_steps=1",
    "train.max_rows=null",
    "train.max_length=128",
    "task=files",
    "task.kind=generation",
    "task.columns=[question]",
    "task.label=answer",
    "task.metrics=[rouge_l]",
    "task.language.prompt='{question}'",
    "task.language.max_new_tokens=2",
]


def test_a_long_answer_costs_its_row_and_in_a_scored_split_names_the_length(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(300)]
    long = {"question": "What is last?", "answer": "It is long. " * 15}
    for name, kept in (("train", [*rows, long]), ("short", rows[:2]), ("long", [*rows[:2], long])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    command = ["train", *GENERATION, "task.files.train=train.jsonl"]
    assert main([*command, "task.files.validation=long.jsonl"]) == 2
    shown = capsys.readouterr().err
    length = int(re.search(r"set train\.max_length=(\d+)", shown)[1])  # type: ignore[index]
    assert no_run()
    assert main([*command, "task.files.validation=long.jsonl", f"train.max_length={length}"]) == 0
    assert main([*command, "task.files.validation=short.jsonl"]) == 0
    assert "1 of 301" in capsys.readouterr().out
