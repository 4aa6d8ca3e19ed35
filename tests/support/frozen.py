"""Runs that train the upper layers of tiny models alone."""

import json
from pathlib import Path

import pytest

from molex_cli.cli import main
from molex_cli.records import cached_prefixes
from support.runs import only_record

SHORT = ["experiment=smoke", "train.max_steps=null", "train.epochs=2", "train.batch_size=8", "train.max_rows=32"]
BLOCKS = {"tiny_bert": "encoder.layer", "tiny_roberta": "encoder.layer", "tiny_deberta": "encoder.layer"}
BLOCKS |= {"tiny_distilbert": "transformer.layer", "tiny_gpt2": "h"}
STILL = ["tiny_llama", "tiny_gemma", "tiny_mistral", "tiny_qwen"]  # they have no dropout of their own


def upper(model, layers="23"):
    """Return the settings that adapt the upper layers alone."""
    return [f"model={model}", f"method.targets=['.*\\.{BLOCKS.get(model, 'layers')}\\.[{layers}]\\..*']"]


def trained(folder, *settings):
    """Run a command and return the record, the losses of all steps and evaluations, and the predictions."""
    assert main(["train", *SHORT, *settings, f"output_dir={folder}"]) == 0
    record, path = only_record(folder)
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if event["event"] in ("step", "evaluated")]
    predictions = [
        json.loads(line)["prediction"] for line in (path / "predictions-last.jsonl").read_text().splitlines()
    ]
    notes = [event["message"] for event in events if event["event"] == "noted"]
    return record, losses, predictions, notes


def expect_equal(one, other, most=1e-5):
    assert one[0]["variant"] == other[0]["variant"]
    assert one[1] == pytest.approx(other[1], abs=most)
    assert one[2] == other[2]
    assert one[0]["degenerate"] == other[0]["degenerate"]


def kept():
    return cached_prefixes.entries(Path("cache").resolve())


def computed(run, word):
    """Return whether a run computed its frozen layers in each pass, and said why in one line."""
    record, *_, notes = run
    told = [note for note in notes if "and each pass computes them" in note]
    assert len(told) == 1
    assert word in told[0]
    assert record["frozen_layers"]["layers"] == 0
    assert word in record["frozen_layers"]["reason"]
    return record["status"] == "finished"
