"""Runs of the version before settings got the field's words: they open, and their ids are kept."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from molex_cli.errors import RecordError
from molex_cli.records import flat, read_record, variant_id

RUNS = sorted((Path(__file__).parent / "runs_of_before").iterdir())
OLD_TRAIN = {"accumulate", "warmup", "clip"}
NEW_TRAIN = {"gradient_accumulation_steps", "warmup_ratio", "max_grad_norm"}
OLD_KEYS = OLD_TRAIN | {"protocol", "outcomes", "freedom", "went_on_from_step"}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_record_of_before_opens_with_the_names_of_today(run: Path) -> None:
    written = json.loads((run / "record.json").read_text(encoding="utf-8"))
    settings = read_record(run).settings
    assert written["settings"]["train"].keys() >= OLD_TRAIN
    assert settings["train"].keys() >= NEW_TRAIN
    assert not settings["train"].keys() & OLD_TRAIN
    assert settings["task"]["kind"] in ("classification", "multiple_choice")
    assert "answer_mode" in settings["task"]
    assert "protocol" not in settings["task"]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_key_of_a_record_keeps_its_old_name(run: Path) -> None:
    assert not {word for key in flat(asdict(read_record(run))) for word in key.split(".")} & OLD_KEYS


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_renames_keep_the_variant_of_a_record(run: Path) -> None:
    record = read_record(run)
    assert variant_id(record.settings) == record.variant


@pytest.mark.parametrize("junk", [[], 1, {"version": 1}, {"version": 1, "settings": 3}, {"version": 1, "settings": {}}])
def test_a_broken_record_is_refused_in_one_line(junk: object, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps(junk), encoding="utf-8")
    with pytest.raises(RecordError, match="is not the record of a run, or is damaged") as refused:
        read_record(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_record_of_before_keeps_which_predictions_were_right(run: Path) -> None:
    written = json.loads((run / "record.json").read_text(encoding="utf-8"))["scores"]
    scores = read_record(run).scores
    for which in ("last", "best"):
        has_one_task = "stages" not in scores
        assert ("outcomes" in written[which]) == ("correctness" in scores[which]) == has_one_task
        assert scores[which].get("correctness") == written[which].get("outcomes")
        assert "outcomes" not in scores[which]
