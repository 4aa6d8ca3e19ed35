"""A text without a token, as GPT-2's tokenizer makes of an empty one, is one token: a model needs something to read."""

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from molex_cli.cli import main
from molex_cli.data.encoding import encode, encode_pairs
from molex_cli.data.reading import Split
from molex_cli.models import loading
from molex_cli.models.byte_tokenizer import byte_tokenizer

ROWS = '{"text": "", "label": "a"}\n{"text": "words", "label": "b"}\n{"text": "more words", "label": "a"}\n'


def plain(max_length, **special):
    """Return a tokenizer that puts nothing around a text and pads with what ends one, as GPT-2's."""
    backend = byte_tokenizer(max_length).backend_tokenizer
    backend.post_processor = None
    return PreTrainedTokenizerFast(tokenizer_object=backend, **({"eos_token": "</s>"} | special))


@pytest.mark.parametrize(("special", "token"), [({}, "</s>"), ({"bos_token": "<s>"}, "<s>")])
def test_an_empty_text_is_the_token_that_begins_or_ends_a_text(special, token, tmp_path):
    tokenizer = plain(64, pad_token="<pad>", **special)
    found = encode(Split(["0", "1"], [("",), ("ab",)], [0, 1]), tokenizer, 8, tmp_path)
    assert found.lengths == [1, 2]
    assert found.row(0)[0].tolist() == [tokenizer.convert_tokens_to_ids(token)]
    pairs = encode_pairs(Split(["0"], [("",)], [0], [("", "x")]), tokenizer, 8, tmp_path)
    assert [len(pairs.row(row)[0]) for row in (0, 1)] == [1, 1]


@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_llama"])
def test_an_empty_text_is_trained_on_scored_and_predicted_alone_as_in_a_batch(model, monkeypatch, capsys):
    monkeypatch.setattr(loading, "byte_tokenizer", plain)
    Path("rows.jsonl").write_text(ROWS)
    files = ["task=files", "task.columns=[text]", "task.files.train=rows.jsonl", "task.files.validation=rows.jsonl"]
    one = ["train.batch_size=1", "train.eval_batch_size=1", "train.max_steps=3", "train.learning_rate=0.01"]
    assert main(["train", "experiment=smoke", f"model={model}", "method=lora", *files, *one]) == 0
    (folder,) = Path("outputs").glob("*-s0")
    known = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert main(["eval", f"run={folder}", "train.eval_batch_size=3"]) == 0
    (path,) = (folder / "evaluations").glob("*-predictions.jsonl")
    batched = [json.loads(line) for line in path.read_text().splitlines()]
    capsys.readouterr()
    assert main(["predict", f"run={folder}", "--file=rows.jsonl"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for alone, together, answer in zip(known, batched, said, strict=True):
        assert alone["logits"] == pytest.approx(together["logits"], abs=1e-5)
        assert alone["logits"] == pytest.approx(answer["logits"], abs=1e-5)
