"""A saved run's model in Python: the same logits, rows of any form, and generation, routed or not."""

import json
from pathlib import Path

import pandas
import pytest
import torch
from support.runs import working_in

import molex_cli
from molex_cli.cli import main
from molex_cli.errors import CheckpointError, ConfigError, DataError

SMOKE = ["experiment=smoke", "hardware.threads=1", "train.learning_rate=0.02"]
ROWS = [(f"premise {i}", f"hypothesis {i}", "yes" if i % 3 else "no") for i in range(12)]
FILES = ["task=files", "task.files.train=rows.csv", "task.files.validation=rows.csv", "task.columns=[a,b]"]
SUMS = [
    *["model=tiny_llama", "task=files", "task.files.train=sums.csv", "task.files.validation=sums.csv"],
    *["task.columns=[sum]", "task.label=is", "task.kind=multiple_choice", "task.labels=[even,odd]"],
    'task.language.prompt="{sum} is"',
]


def csv(name, *lines):
    Path(name).write_text("".join(f"{','.join(line)}\n" for line in lines))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Return the absolute folder of a run of an encoder with a routed method."""
    folder = tmp_path_factory.mktemp("classifier")
    with working_in(folder):
        csv("rows.csv", ("a", "b", "label"), *ROWS)
        return folder / molex_cli.train(*SMOKE, *FILES, "method=mola_inverted", "train.evaluate_every=2").folder


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """Return the absolute folder of a run of a decoder, by its method."""
    folder = tmp_path_factory.mktemp("decoders")
    with working_in(folder):
        csv("sums.csv", ("sum", "is"), *((f"{a} + {a + 1 + a % 2}", ("odd", "even")[a % 2]) for a in range(16)))
        methods = ("lora", "mola_inverted", "molex")
        return {method: folder / molex_cli.train(*SMOKE, *SUMS, f"method={method}").folder for method in methods}


def test_predictions_are_those_of_the_run_and_of_the_command(classifier, capsys):
    run = molex_cli.load(str(classifier))
    found = run.predict([row[:2] for row in ROWS])
    told = [json.loads(line) for line in (classifier / "predictions-last.jsonl").read_text().splitlines()]
    assert [each["logits"] for each in found] == [each["logits"] for each in told]
    csv("new.csv", ("a", "b"), *(row[:2] for row in ROWS))
    capsys.readouterr()
    assert main(["predict", f"run={classifier}", "--file=new.csv"]) == 0
    assert found == [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_model_is_one_of_transformers_whose_own_forward_gives_the_same_logits(classifier):
    run = molex_cli.load(classifier)
    assert not run.model.training
    first, second, _ = zip(*ROWS, strict=True)
    with torch.no_grad():
        rows = run.tokenizer(list(first), list(second), padding=True, return_tensors="pt")
        logits = run.model(**rows.to(run.model.device)).logits.cpu()
    expected = torch.tensor([each["logits"] for each in run.predict([row[:2] for row in ROWS])])
    assert torch.allclose(logits, expected, atol=1e-5)
    assert run.labels == ["no", "yes"]
    assert run.experiment.method.name == run.record.settings["method"]["name"] == "mola_inverted"
    assert run.record.folder == classifier
    assert "mola_inverted" in repr(run)


def test_rows_may_be_dicts_lists_tuples_or_a_frame(classifier):
    run = molex_cli.load(classifier)
    dicts = [{"b": row[1], "a": row[0], "other": 1} for row in ROWS]
    expected = run.predict(dicts)
    assert [each["row"] for each in expected] == list(range(1, 13))
    for rows in ([list(row[:2]) for row in ROWS], (row[:2] for row in ROWS), pandas.DataFrame(dicts)):
        assert run.predict(rows) == expected
    assert run.predict([]) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", "b"), ("a",)], 'row 2 must be a and b, got 1 texts; write {"a": "...", "b": "..."}'),
        ([{"a": "x", "c": "y"}], "row 1 must have b in the dict, got a, c"),
        (["a text"], "row 1 must be a and b, got 1 texts"),
        ([3], "row 1 must be a and b, got int"),
        ([("a", None)], "row 1 must have a value in b, got nothing"),
        ("a text", 'rows must be a list of rows, got str; write [{"a": "...", "b": "..."}]'),
        ({"a": "x", "b": "y"}, "rows must be a list of rows, got dict"),
        (7, "rows must be a list of rows, got int"),
    ],
)
def test_bad_rows_are_refused_in_one_line(classifier, rows, said):
    with pytest.raises(DataError) as refused:
        molex_cli.load(classifier).predict(rows)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_best_or_a_file_alone_is_loaded_and_what_is_none_is_refused(classifier, tmp_path):
    assert molex_cli.load(classifier, which="best").saved.file.name == "adapter-best.safetensors"
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((classifier / "adapter-last.safetensors").read_bytes())
    run = molex_cli.load(alone, device="cpu")
    assert run.record is None
    assert run.predict([ROWS[0][:2]]) == molex_cli.load(classifier).predict([ROWS[0][:2]])
    with pytest.raises(CheckpointError, match="is a folder of one run, where a run itself is needed"):
        molex_cli.load(classifier.parent)
    with pytest.raises(ConfigError, match="device must be one of auto, cpu, cuda, got gpu"):
        molex_cli.load(classifier, device="gpu")


@pytest.mark.parametrize("method", ["lora", "mola_inverted", "molex"])
def test_a_decoder_generates_with_a_cache_what_it_generates_without(decoders, method):
    run = molex_cli.load(decoders[method])
    prompts = run.tokenizer(["7 + 8 is", "1"], padding=True, return_tensors="pt")
    assert prompts["attention_mask"][1, 0] == 0  # prompts are continued, so padding stands before them
    widths = []
    run.model.get_input_embeddings().register_forward_hook(lambda _, args, out: widths.append(args[0].shape[1]))
    said = [
        run.model.generate(**prompts, max_new_tokens=6, do_sample=False, **more) for more in ({}, {"use_cache": False})
    ]
    assert torch.equal(*said)
    assert widths[1:6] == [1] * 5
    assert run.model(**prompts).logits.shape == (*prompts["input_ids"].shape, run.model.config.vocab_size)


def test_a_row_of_one_column_may_be_the_text_itself(decoders):
    run = molex_cli.load(decoders["lora"])
    found = run.predict(["7 + 8", ("7 + 8",), {"sum": "7 + 8"}])
    assert [{**each, "row": 1} for each in found] == [found[0]] * 3
    assert set(found[0]["probabilities"]) == {"even", "odd"}
