"""Ids are for ever: a setting that is added later changes none where it means the behaviour of before."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from molex_cli.config import command_line, overrides, schema
from molex_cli.config.schema import Experiment, as_data
from molex_cli.methods.base import registered_name
from molex_cli.records import renamed, variant_id

# Ids of commands, as version 1 of the records gave them. A line changes only where a preset's values change on purpose.
FROZEN = json.loads((Path(__file__).parent / "frozen_ids.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", FROZEN)
def test_a_command_keeps_its_id(command: str) -> None:
    jobs, _ = overrides.jobs(command_line.parse(command.split(" ")))
    assert variant_id(as_data(jobs[0].experiment)) == FROZEN[command]


def without(settings: dict[str, object], *path: str) -> dict[str, object]:
    *sections, name = path
    inner: dict[str, object] = settings
    for section in sections:
        inner = inner[section]  # type: ignore[assignment]
    del inner[name]
    return settings


ADDED_LATER = [
    ("train", "schedule"),
    ("task", "where"),
    ("method", "rank"),
    ("model", "revision"),
]


@pytest.mark.parametrize("path", ADDED_LATER, ids=".".join)
def test_a_setting_that_came_later_is_read_with_the_value_of_before(
    path: tuple[str, str], experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = as_data(experiment("method=lora"))
    before = settings[path[0]][path[1]]
    old_id = variant_id(without(as_data(experiment("method=lora")), *path))
    monkeypatch.setitem(renamed.ADDED, ".".join(path), before)
    assert variant_id(settings) == old_id
    old = without(as_data(experiment("method=lora")), *path)
    assert as_data(schema.from_data("lora", old)) == settings


def test_a_changed_default_gives_another_id_and_leaves_old_records_alone(
    experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_today = experiment("method=lora")  # rank 8 is the default of today; let 4 be what runs of before had
    monkeypatch.setitem(renamed.ADDED, "method.rank", 4)
    old = without(as_data(of_today), "method", "rank")
    assert variant_id(as_data(of_today)) != variant_id(old)
    opened = as_data(schema.from_data(registered_name(of_today.method), old))
    assert opened["method"]["rank"] == 4
    assert variant_id(opened) == variant_id(old)


def test_stages_and_inner_methods_keep_their_ids_too(
    experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(renamed.ADDED, "method.alpha", 16.0)
    settings = as_data(experiment("method=molex", "method.lora.alpha=16"))
    settings["stages"] = {"one": settings["task"]}
    old = json.loads(json.dumps(settings))
    del old["method"]["lora"]["alpha"]
    del old["stages"]["one"]["objective"]
    assert variant_id(settings) == variant_id(old)
    added = dict(renamed.added_later(old))
    assert (added["method.lora.alpha"], added["stages.one.objective"]) == (16.0, None)
