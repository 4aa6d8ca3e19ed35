"""What the version before settings got the field's words left on disk still works: runs, states, jobs, indices."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.runs import interrupted, only_record, outcome

from molex_cli.cli import main
from molex_cli.config import run_id
from molex_cli.config.schema import Experiment
from molex_cli.records import Record, flat, index, read_record
from molex_cli.records.renamed import ADDED, NOT_DEFINING
from molex_cli.run import run
from molex_cli.training import state

RUNS = Path(__file__).parent / "records" / "runs_of_before"
LORA = RUNS / "builtin-nli-lora-tiny_bert-b352059ab333-s0"
BITFIT = RUNS / "builtin-nli-bitfit-tiny_bert-2a31ba2afcef-s0"
WORDS = {
    "gradient_accumulation_steps": "accumulate",
    "warmup_ratio": "warmup",
    "max_grad_norm": "clip",
    "answer_mode": "protocol",
    "classification": "classify",
    "utilisation": "freedom",
    "correctness": "outcomes",
    "resumed_from_step": "went_on_from_step",
}
SAME_COMMAND = [
    "experiment=smoke",
    "seed=0",
    "train.max_steps=6",
    "train.gradient_accumulation_steps=2",
    "train.warmup_ratio=0.2",
    "train.max_grad_norm=0.5",
    "train.evaluate_every=3",
    "train.schedule=cosine",
    "data_dir=null",
]


def in_words_of_before(text: str) -> str:
    """Return JSON of today as the version before wrote it."""
    found = json.dumps(json.loads(text))
    for word, before in WORDS.items():
        found = found.replace(f'"{word}"', f'"{before}"')
    return re.sub(r'"objective": null, |, "objective": null', "", found)


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Return a folder with a copy of the runs of before."""
    return Path(shutil.copytree(RUNS, tmp_path / "before"))


def test_runs_of_before_are_compared_example_by_example(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", str(before / LORA.name), str(before / BITFIT.name), "--format", "json"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    cells = json.loads(shown)["cells"]
    assert [cell["name"] for cell in cells] == ["LoRA", "BitFit"]
    assert cells[1]["difference"]["over"] == "examples of one seed"
    for path in before.glob("*/predictions-*.jsonl"):
        path.unlink()  # the record alone says which predictions were right
    assert main(command) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("run_of_before", [LORA, BITFIT], ids=lambda run: run.name)
def test_an_adapter_of_before_gives_the_scores_of_its_record(
    run_of_before: Path, before: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", f"run={before / run_of_before.name}", "train.max_rows=64", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    last = read_record(run_of_before).scores["last"]
    assert found["rows_used"] == 64
    assert found["scores"] == last["scores"]
    assert found["loss"] == pytest.approx(last["loss"], abs=1e-5)


@pytest.mark.parametrize("run_of_before", [LORA, BITFIT], ids=lambda run: run.name)
def test_the_same_command_gives_the_numbers_of_before(run_of_before: Path) -> None:
    method = read_record(run_of_before).settings["method"]["name"]
    assert main(["train", *SAME_COMMAND, f"method={method}"]) == 0
    _, folder = only_record()
    assert isinstance(folder, Path)
    assert folder.name == run_of_before.name
    assert_same_losses(folder, run_of_before)
    assert_same_predictions(folder, run_of_before)
    assert_same_keys(read_record(folder), read_record(run_of_before))


def assert_same_losses(one: Path, other: Path) -> None:
    found, expected = (losses(folder) for folder in (one, other))
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-5)


def losses(folder: Path) -> list[tuple[tuple[str, int], float]]:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [((event["event"], event["step"]), event["loss"]) for event in events if "loss" in event]


def assert_same_predictions(one: Path, other: Path) -> None:
    for name in ("predictions-last.jsonl", "predictions-best.jsonl"):
        texts = ((folder / name).read_text() for folder in (one, other))
        found, expected = ([json.loads(line) for line in text.splitlines()] for text in texts)
        for row, wanted in zip(found, expected, strict=True):
            assert row.pop("logits") == pytest.approx(wanted.pop("logits"), abs=1e-5)
            assert row == wanted


def assert_same_keys(one: Record, other: Record) -> None:
    """Fail where a key has another name: only the machine may say more of itself, and some keys may come later.

    The majority baseline was that of the training rows; the best constant is another thing and has another name.
    """
    later = {f"settings.{key}" for key in (*ADDED, *NOT_DEFINING)} | {
        "evaluation.labels",
        "evaluation.positive",
        "scores.evaluations",
    }
    sections = ("environment.", "scores.majority.", "scores.constant.", "data.train.labels.", "data.validation.labels.")
    both = (flat(asdict(each)).keys() - later for each in (one, other))
    found, expected = ({key for key in keys if not key.startswith(sections)} for keys in both)
    assert found == expected


def test_a_state_of_before_is_taken_up(
    experiment: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["method=mola_inverted", "train.max_steps=6", "train.evaluate_every=2", "checkpoint_every=1"]
    for name in ("alone", "interrupted"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    run(experiment(*settings))
    monkeypatch.chdir(tmp_path / "interrupted")
    again = interrupted(experiment, *settings, at=5)
    (path,) = Path("outputs").glob(f"*/{state.NAME}")
    write_as_before(path)
    record = run(again)
    assert [attempt["resumed_from_step"] for attempt in record.attempts] == [4]
    assert outcome(tmp_path / "interrupted") == outcome(tmp_path / "alone")


def write_as_before(path: Path) -> None:
    """Give a state and the record beside it the words of before."""
    with safe_open(path, framework="pt") as file:
        text = in_words_of_before(file.metadata()["molex"])
    about = json.loads(text)
    assert {"accumulate", "warmup", "clip"} <= about["settings"]["train"].keys()
    assert about["settings"]["task"]["kind"] == "classify"
    assert "protocol" in about["settings"]["task"]
    assert "objective" not in about["settings"]["task"]
    assert '"freedom"' in text
    text = json.dumps(about | {"format": state.WITHOUT_DIGEST})
    save_file(load_file(path), path, {"molex": text})
    record = path.parent / "record.json"
    record.write_text(in_words_of_before(record.read_text()))


def test_a_sweep_job_of_before_is_loaded(experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    made, path = experiment("method=lora", "train.warmup_ratio=0.3", "train.max_grad_norm=2.0"), tmp_path / "0000.json"
    run_id.save_settings(path, made)
    path.write_text(in_words_of_before(path.read_text()))
    assert json.loads(path.read_text())["settings"]["train"]["warmup"] == 0.3
    assert run_id.load_settings(path) == made


def test_an_index_of_before_is_read(before: Path) -> None:
    lines = []
    for folder in sorted(before.iterdir()):
        content: dict[str, Any] = json.loads((folder / "record.json").read_text())
        copy = {key: value for key, value in content.items() if key not in index.LEFT_OUT}
        changed = (folder / "record.json").stat().st_mtime_ns
        lines.append(json.dumps({"folder": folder.name, "changed": changed, "record": {**copy, "name": "a copy"}}))
    (before / index.NAME).write_text("\n".join(lines) + "\n")
    found, problems = index.read(before)
    assert not problems
    assert len(found) == len(lines)
    for folder, record in found.items():
        assert record.name == "a copy"
        assert record.settings == read_record(folder).settings
        assert record.scores == read_record(folder).scores
