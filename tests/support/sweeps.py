"""A sweep with one job of each kind of end."""

import json
import os
import signal
import threading
import time
from pathlib import Path

from molex_cli import records
from molex_cli.cli import main
from molex_cli.config import command_line, overrides, run_id
from molex_cli.launching.status import read_status

PRESET = """\
# @package _global_
defaults: [override /model: {model}, override /hardware: cpu, override /method: {method}, _self_]
train: {{max_rows: 64, batch_size: 8, max_length: 64, {train}}}
log: {{wandb: disabled}}
{more}
"""


KINDS = {
    "fine": {},
    "settings": {"model": "tiny_llama", "method": "bitfit"},
    "bug": {"train": "max_steps: 5"},
    "memory": {"more": "method: {rank: 1000000000}"},
    "nan": {"train": "learning_rate: 1.0e+30, max_grad_norm: null"},
    "killed": {"train": "max_steps: 100000, epochs: 100000"},
}


ERRORS = {  # words of its message, and its type
    "biases": "MethodError",
    "Is a directory": "IsADirectoryError",
    "must fit into memory": "MethodError",
    "finite": "DivergedError",
    "killed by SIGKILL": "ProcessEnded",
}


def presets(kinds=KINDS):
    """Write an experiment for each kind of end that a job may have."""
    Path("mine/experiment").mkdir(parents=True)
    for name, changed in kinds.items():
        content = {"model": "tiny_bert", "method": "lora", "train": "max_steps: 4", "more": "", **changed}
        Path(f"mine/experiment/{name}.yaml").write_text(PRESET.format(**content))


def experiment_of(*settings):
    return overrides.checked(command_line.parse(["-cd", "mine", *settings]))


def folder_of(*settings):
    return Path("outputs") / run_id.run_name(experiment_of(*settings)).replace("/", "-")


def statuses():
    (latest,) = sorted(Path("outputs/sweeps").iterdir())[-1:]
    return [read_status(path) for path in sorted((latest / "jobs").glob("????.json"))]


def all_records():
    return {path.parent.name: json.loads(path.read_text()) for path in Path("outputs").glob("*/record.json")}


class Killer(threading.Thread):
    """Kills the process of a run, dead, as soon as it trains."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder = folder

    def run(self):
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            events = self.folder / "events.jsonl"
            if events.exists() and '"event": "step"' in events.read_text():
                os.kill(records.read_record(self.folder).environment["pid"], signal.SIGKILL)
                return
            time.sleep(0.02)


def one_of_each_kind(*launcher):
    """Run a sweep with one job of each kind; return its exit code."""
    presets()
    bug = folder_of("experiment=bug")
    (bug / "adapter-last.safetensors").mkdir(parents=True)  # no file can be written there: nobody foresees that
    Killer(folder_of("experiment=killed")).start()
    return main(["train", "-m", "-cd", "mine", f"experiment={','.join(KINDS)}", *launcher])


def expect_one_of_each_kind(code, shown):
    assert code == 1
    found = statuses()
    assert [status.state for status in found] == ["finished", *["failed"] * 5]
    told = {Path(status.folder).name: status.error for status in found}
    errors = []
    for name, record in all_records().items():
        assert record["status"] == ("failed" if told[name] else "finished")
        assert record["finished"]
        if told[name]:
            assert record["error"]["message"] == told[name]
            errors.append(record["error"])
    messages = {words: next(e for e in errors if words in e["message"]) for words in ERRORS}
    assert {words: error["type"] for words, error in messages.items()} == ERRORS
    assert "Traceback" in messages["Is a directory"]["traceback"]
    table = shown[shown.index("job ") :].splitlines()
    assert [line.split()[1] for line in table[1:7]] == ["finished", *["failed"] * 5]
    for line, status in zip(table[1:7], found, strict=True):
        assert line.split()[-1] == status.folder
    assert shown.index("killed by SIGKILL") < shown.index("job ")  # told at once, not at the end
