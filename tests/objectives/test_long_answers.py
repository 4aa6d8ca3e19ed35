"""Answers that are too long: the length that fits is named, few training rows are left out, none in silence."""

import json
import re
from pathlib import Path

import pytest

from molex_cli.checkpoints import adapter
from molex_cli.data.prompts import Question, encode_questions
from molex_cli.data.reading import Split
from molex_cli.errors import ConfigError, DataError
from molex_cli.models.byte_tokenizer import byte_tokenizer
from molex_cli.run import run


@pytest.mark.parametrize("prompt", ["ab", "0123456789" * 3])
def test_the_length_that_an_error_names_fits_and_one_less_does_not(prompt):
    split, asked = Split(["validation:0"], [("x",)], [("",)]), [Question(prompt, ("0123456789",))]

    def encoded(length):
        return encode_questions(asked, split, byte_tokenizer(64), length, every_answer=False, end=True)

    with pytest.raises(DataError) as caught:
        encoded(4)
    fitting = int(re.search(r"set train.max_length=(\d+)", str(caught.value))[1])
    assert encoded(fitting).lengths[0] <= fitting
    with pytest.raises(DataError):
        encoded(fitting - 1)


def test_few_training_rows_with_long_answers_are_left_out_counted_and_told(experiment, capsys):
    made = long_answers(experiment, train=1)
    record = run(made)
    assert record.status == "finished"
    assert (record.data["train"]["rows_too_long"], record.data["train"]["rows_used"]) == (1, 300)
    assert "rows_too_long" not in record.data["validation"]
    assert "note: 1 of 301 rows of train are left out: train.max_length is too short" in capsys.readouterr().out


def test_long_answers_elsewhere_are_named_all_at_once_before_the_model_is_loaded(experiment, monkeypatch):
    monkeypatch.setattr(adapter, "adapt", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(ConfigError) as caught:
        run(long_answers(experiment, train=4, validation=1))
    first, second = str(caught.value).splitlines()
    assert "too short for 4 of 304 rows of train; set train.max_length=" in first
    assert "too short for 1 of 301 rows of validation; set train.max_length=" in second


def test_a_length_that_the_model_cannot_take_is_not_offered(experiment):
    made = long_answers(experiment, train=1, validation=1)
    made.model.config["max_position_embeddings"] = 150
    with pytest.raises(ConfigError, match=r"needs \d+, and this model takes at most 148: choose another") as caught:
        run(made)
    assert "set train.max_length" not in str(caught.value)


def long_answers(experiment, **too_long):
    """Return an experiment on 300 short answers and so many long ones in each split."""
    for name in ("train", "validation"):
        rows = [{"question": f"What is {i}?", "answer": "It."} for i in range(300)]
        rows += [{"question": "Why?", "answer": "x" * 200}] * too_long.get(name, 0)
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return experiment(
        "task=files", "task.kind=generation", "task.columns=[question]", "task.label=answer", "task.metrics=[rouge_l]",
        "task.language.prompt='{question}'", "task.language.max_new_tokens=2", "task.files.train=train.jsonl",
        "task.files.validation=validation.jsonl", "model=tiny_llama", "method=lora", "train.max_rows=null",
        "train.max_length=64", "train.max_steps=1",
    )  # fmt: skip
