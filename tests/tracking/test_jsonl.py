"""What is written as JSON is JSON: a number that is not finite is null, however deep it lies."""

import json
import math
import re
from pathlib import Path

import molex_cli
from molex_cli.records import as_json
from molex_cli.tracking.events import Evaluated
from molex_cli.tracking.jsonl import Jsonl

IN_MEMORY = {  # hashes, messages, what a process tells its parent, what a file keeps for this program alone
    "analysis/allocating.py",
    "checkpoints/adapter.py",
    "checkpoints/peft_import.py",
    "checkpoints/saved_run.py",
    "cli/completion.py",
    "config/reference.py",
    "config/schema.py",
    "data/encoding.py",
    "data/reading.py",
    "data/same_run.py",
    "diagnosis/machine.py",
    "evaluators/harness_results.py",
    "models/frozen_prefix.py",
    "records/files.py",
    "records/record.py",
    "training/frozen_prefix.py",
    "training/state.py",
    "training/summary.py",
}


def strictly(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_an_event_with_numbers_that_are_not_finite_is_json(tmp_path):
    sink = Jsonl(tmp_path / "events.jsonl")
    routing = {"0": {"usage": [0.5, math.nan], "modules": {"query": {"entropy": math.inf}}}}
    scores = {"matthews": math.nan, "accuracy": 0.5}
    sink.write(
        Evaluated(step=1, epoch=1.0, split="v", loss=-math.inf, scores=scores, seconds=0.0, best=False, routing=routing)
    )
    sink.close()
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    event = strictly(line)
    assert (event["loss"], event["scores"]) == (None, {"matthews": None, "accuracy": 0.5})
    assert event["routing"] == {"0": {"usage": [0.5, None], "modules": {"query": {"entropy": None}}}}


def test_any_content_becomes_json():
    assert strictly(as_json({"a": (1.0, math.nan), 2: [{"b": -math.inf}]})) == {"a": [1.0, None], "2": [{"b": None}]}


def test_one_function_writes_all_json_that_others_read():
    package = Path(molex_cli.__file__).parent
    writers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\bjson\.dumps?\(", path.read_text())
    }
    assert writers <= IN_MEMORY
