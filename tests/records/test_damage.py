"""Whatever becomes of a file that a run leaves, a command answers: 0, 1 or 2, and a line on what it leaves out."""

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.made_records import leave

from molex_cli import records
from molex_cli.cli import main
from molex_cli.errors import RecordError
from molex_cli.launching import status
from molex_cli.records import index, locks
from molex_cli.tracking.jsonl import Jsonl

RUN = Path("outputs/mola-s0")
ROUTING = {
    "0": {"usage": [0.5, 0.5], "effective": 2.0, "modules": {"query": {"usage": [0.5, 0.5]}}},
    "1": {"usage": []},
}
VALUES = {
    "null": "null",
    "text": '"x"',
    "minus": "-1",
    "beyond": "1e400",
    "large": "1e99",
    "whole": str(10**23),
    "list": "[]",
    "object": "{}",
    "deep": "[" * 300 + "]" * 300,
    "deeper": "[" * 100_000,
    "digits": "9" * 5000,
    "true": "true",
    "surrogate": '"\\ud800"',
    "lines": '"a\\nb"',
}
SENTINEL = "the value to be damaged"


def made_runs() -> None:
    """Write three runs, one with every file of today and values in every part."""
    for method, seed in (("lora", 0), ("lora", 1), ("mola", 0)):
        leave(
            Path(f"outputs/{method}-s{seed}"),
            method,
            seed,
            0.7,
            started="2026-11-25T19:08:43+00:00",
            finished="2026-11-25T19:09:43+00:00",
            routing=ROUTING,
            experts_per_layer=[2, 2],
            evaluation={"labels": ["no", "yes"], "positive": "yes", "not_computed": {}},
            attempts=[{"started": "2026-11-25T19:00:00+00:00", "finished": None, "status": "failed", "error": None}],
            base={"fingerprint": "f" * 64},
            settings={"log": {"project": "molex", "entity": None}, "stages": {}},
        )
    rows = [{"id": f"{i}", "label": "yes", "prediction": "yes" if i % 3 else "no", "logits": [0.5]} for i in range(9)]
    records.write_rows(RUN / "predictions-last.jsonl", rows)
    events = [{"event": "evaluated", "step": step, "scores": {"accuracy": 0.5}} for step in (1, 2, 3)]
    records.write_rows(RUN / "events.jsonl", events)


COMMANDS = [
    ["compare", "outputs"],
    *(["compare", "outputs", "--format", name] for name in ("csv", "json", "latex", "md")),
    ["compare", "outputs", "--which", "best", "--rows", "method,train.epochs"],
    ["diff", "outputs/lora-s0", str(RUN)],
    ["experts", "outputs/lora-s0", str(RUN)],
    ["experts", str(RUN), "--json"],
    ["sync", "outputs", "--dry-run"],
]
PAGE = ["compare", "outputs", "--html", "page.html"]


def held(argv: list[str]) -> str:
    """Return what is wrong with how a command ends: nothing, if it is one line for each thing it leaves out."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(argv)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    said = err.getvalue().splitlines()
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if code == 2 and not said:
        return "exit code 2 without a word"
    strange = [line for line in said if not line.startswith(("left out: ", "molex: ", "lora-s0: ", "mola-s0: "))]
    return f"said {strange}" if strange else ""


def paths_of(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value in plain data."""
    if path:
        yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from paths_of(value, (*path, key))


def with_value(content: Any, path: tuple[str | int, ...], value: str | None) -> str:
    """Return JSON in which another value stands at a path, or none."""
    copy = json.loads(json.dumps(content))
    at = copy
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
        return json.dumps(copy)
    at[path[-1]] = SENTINEL
    return json.dumps(copy).replace(json.dumps(SENTINEL), value)


def damages_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield a name and the content of every damage to a value of a file of JSON or JSON lines."""
    lines = path.read_text(encoding="utf-8")
    is_rows = path.suffix == ".jsonl"
    content = json.loads(lines.split("\n")[0] if is_rows else lines)
    rest = "\n".join(lines.split("\n")[1:]) if is_rows else ""
    for at in paths_of(content):
        for name, value in [*VALUES.items(), ("removed", None)]:
            yield f"{'.'.join(map(str, at))} {name}", with_value(content, at, value) + "\n" + rest


def file_damages(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield a name and a function for every damage to a file as a whole; the function gets its path and bytes."""
    yield "half", lambda path, raw: path.write_bytes(raw[: len(raw) // 2])
    yield "flipped", lambda path, raw: path.write_bytes(raw[:40] + bytes([raw[40] ^ 0x80]) + raw[41:])
    yield "empty", lambda path, raw: path.write_bytes(b"")
    yield "no object", lambda path, raw: path.write_bytes(b"[]")
    yield "no text", lambda path, raw: path.write_bytes(b"\xff\xfe\x00")
    yield "pipe", lambda path, raw: (path.unlink(), os.mkfifo(path))
    yield "folder", lambda path, raw: (path.unlink(), path.mkdir())
    yield "lost link", lambda path, raw: (path.unlink(), path.symlink_to("nowhere"))
    yield "device", lambda path, raw: (path.unlink(), path.symlink_to("/dev/zero"))


FILES = [RUN / "record.json", RUN / "events.jsonl", RUN / "predictions-last.jsonl", Path("outputs/index.jsonl")]


def restored(path: Path, raw: bytes, changed: int) -> None:
    """Put a file back as it was, its time included: the index then speaks for it again."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(raw)
    os.utime(path, ns=(changed, changed))


def without_correctness(path: Path) -> None:
    """Rewrite a record so that a comparison has to open the predictions."""
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["scores"]["last"]["correctness"]
    path.write_text(json.dumps(content), encoding="utf-8")


def made_index() -> None:
    """Write the index of the runs."""
    for folder in sorted(Path("outputs").iterdir()):
        if folder.is_dir():
            index.add(folder, records.read_record(folder))


def all_damages() -> list[tuple[Path, str, Any]]:
    """Return file, name and content (or function) of every damage, single values first."""
    found: list[tuple[Path, str, Any]] = []
    for path in FILES:
        found += [(path, name, content) for name, content in damages_of(path)]
        found += [(path, name, function) for name, function in file_damages(path)]
    return found


def assert_all_hold(damages: list[tuple[Path, str, Any]], commands: list[list[str]]) -> None:
    original = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in FILES}
    wrong = []
    for number, (path, name, damage) in enumerate(damages):
        damage(path, original[path][0]) if callable(damage) else path.write_text(damage, encoding="utf-8")
        for argv in {str(argv): argv for argv in (commands[0], commands[number % len(commands)])}.values():
            if problem := held(argv):
                wrong.append(f"{path} {name}: molex {' '.join(argv)}: {problem[:300]}")
        restored(path, *original[path])
    assert not wrong, f"{len(wrong)} of {len(damages)}:\n" + "\n".join(wrong[:60])


@pytest.fixture
def runs(tmp_path: Path) -> None:
    made_runs()
    without_correctness(RUN / "record.json")
    made_index()


def test_a_sample_of_all_damages_is_answered_in_lines(runs: None) -> None:
    damages = all_damages()
    assert len(damages) > 1000
    assert_all_hold(random.Random(15).sample(damages, 120), COMMANDS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_that_is_none_or_half_is_answered_in_lines(runs: None, path: Path) -> None:
    assert_all_hold([(path, name, damage) for name, damage in file_damages(path)], COMMANDS)


def test_a_damaged_status_is_that_of_a_failed_job(runs: None) -> None:
    job = Path("job.yaml")
    path = status.status_path(job)
    status.write_status(job, status.Status(status.JobState.finished, "outputs/x", 0.5, "accuracy", 1.0, ran=True))
    raw, changed = path.read_bytes(), path.stat().st_mtime_ns
    for name, damage in [*damages_of(path), *file_damages(path)]:
        damage(path, raw) if callable(damage) else path.write_text(damage, encoding="utf-8")
        found = status.read_status(job)
        if name != "lost link":  # nobody has written one yet
            assert found.state is not status.JobState.waiting or name == "state removed", name
        assert len(str(found.error).splitlines()) == 1 or name == "error lines", name
        restored(path, raw, changed)


@pytest.mark.parametrize("file", [locks.BEGUN, "record.json", locks.LOCK])
def test_a_folder_whose_files_are_damaged_is_refused_in_one_line(tmp_path: Path, file: str) -> None:
    path = tmp_path / "run" / file
    path.parent.mkdir()
    for _, damage in file_damages(path):
        path.write_text('{"rows of train": "0123456789 and so on, longer than what is flipped"}', encoding="utf-8")
        damage(path, path.read_bytes())
        with contextlib.suppress(RecordError):
            locks.acquire(str(tmp_path), "run", locks.Resume.missing, {"rows of train": "b"}, wait=0.0).release()
        with contextlib.suppress(RecordError):
            locks.is_locked(path.parent)
        path.parent.mkdir(exist_ok=True)
        restored(path, b"", 0)
        path.unlink()


def test_events_that_are_damaged_do_not_stop_a_run_that_resumes(runs: None) -> None:
    path = RUN / "events.jsonl"
    raw, changed = path.read_bytes(), path.stat().st_mtime_ns
    for name, content in damages_of(path):
        path.write_text(content, encoding="utf-8")
        Jsonl(path, keep_until=3).close()
        assert len(path.read_text(encoding="utf-8").splitlines()) in (2, 3), name
        restored(path, raw, changed)


@pytest.mark.slow
def test_every_damage_is_answered_in_lines(runs: None) -> None:
    assert_all_hold(all_damages(), COMMANDS)


@pytest.mark.slow
def test_the_page_holds_for_every_damage(runs: None) -> None:
    assert_all_hold(random.Random(15).sample(all_damages(), 60), [PAGE])
