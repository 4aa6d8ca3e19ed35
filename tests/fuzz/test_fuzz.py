"""No damage to a file and no odd setting gets more out of a command than one line; and the fuzzer would notice."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.damages import BYTES, FAMILIES, NODES, damage, kinds
from fuzz.laws import After, Broken, broken, snapshot
from fuzz.loop import Part, Report, fuzz, opened
from fuzz.runner import MARK, Ended, Molex, Place
from fuzz.tries import Try, of_json
from fuzz.workspace import Command

SECONDS = float(os.environ.get("MOLEX_FUZZ_SECONDS", "20"))  # of tries; before them the files are made


@pytest.fixture(scope="module")
def molex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Molex]:
    """Start the server once: it imports for some seconds."""
    with Molex(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "here").made()


def test_no_try_breaks_a_law(molex: Molex, tmp_path: Path) -> None:
    report = fuzz(opened(molex, tmp_path), Part(seconds=SECONDS))
    assert report.tried["all"]
    assert not report.found, f"\n{report}\nrepeat one: PYTHONPATH=tests python -m fuzz --again JSON"


def test_the_server_stops_a_command_that_waits_for_ever(molex: Molex, place: Place) -> None:
    begun = time.monotonic()
    ended = molex.run(place, ("--version",), before="signal:pause", seconds=1)
    assert ended.stopped == ["SIGTERM"]
    assert ended.busy < 1
    assert time.monotonic() - begun < 30


def judged(place: Place, act=lambda place: None, name="compare", **ended) -> list[str]:
    """Return the laws that a command breaks which does this, shows this and ends so."""
    before = snapshot(place)
    act(place)
    usual = {"code": 0, "seconds": 1.0, "busy": 1.0, "stopped": [], "out": "", "err": ""}
    command = Command(name, (), (), ("page.html",))
    return [
        law.law
        for law in broken(After(place, Try("", ("compare", "outputs")), command, Ended(**usual | ended), before, place))
    ]


TRACEBACK = 'Traceback (most recent call last)\n  File "/x/molex_cli/run.py", line 1, in run\nValueError: x\n'


@pytest.mark.parametrize(
    ("law", "ended"),
    [
        ("it ends in time", {"stopped": ["SIGTERM"], "code": 130}),
        ("it ends in time", {"busy": 30.0}),
        ("it ends in time", {"stopped": ["SIGTERM", "SIGKILL"], "code": -9}),
        ("its exit code is 0 1 or 2", {"code": -11}),
        ("its exit code is 0 1 or 2", {"code": 130}),
        ("it shows no traceback", {"code": 1, "err": TRACEBACK}),
        ("it shows no traceback", {"out": TRACEBACK}),
        ("a failure is told", {"code": 2}),
        ("a failure is told", {"code": 1, "err": "\n"}),
        ("a complaint is short", {"code": 2, "err": "molex: x\n" * 100}),
        ("a complaint is short", {"code": 2, "err": f"molex: {'x' * 10_000}"}),
        ("no library speaks", {"err": "/x/y.py:7: UserWarning: x"}),
        ("no control character is shown", {"out": "\x1b[31mred"}),
        ("no control character is shown", {"err": "\x9b31mred"}),
        ("no secret is kept or shown", {"code": 2, "err": f"molex: {MARK}"}),
    ],
)
def test_a_command_that_ends_or_speaks_badly_is_caught(place: Place, law: str, ended: dict) -> None:
    assert law in judged(place, **ended)


@pytest.mark.parametrize(
    ("law", "name", "text"),
    [
        ("nothing else is touched", "work/new.txt", "x"),
        ("nothing else is touched", "outside/precious.txt", "taken"),
        ("nothing else is touched", "home/.bashrc", "x"),
        ("nothing else is touched", "../beside", "x"),
        ("no secret is kept or shown", "work/page.html", f"key {MARK}"),
        ("no secret is kept or shown", "cache/tokens", f"key {MARK}"),
        ("nothing half written stays", "work/.page.html.x8d2", "<ht"),
    ],
)
def test_a_command_that_writes_what_it_must_not_is_caught(place: Place, law: str, name: str, text: str) -> None:
    assert law in judged(place, lambda place: (place.folder / name).write_text(text))


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("html", "<td><img src=x onerror=alert(1)></td>"),
        ("md", "| <script>document.title |"),
        ("csv", "a,b\n=cmd|x,1\n"),
        ("csv", 'a,"=cmd|x"\n'),
        ("latex", "% a\n\\input{/etc/passwd}\n"),
    ],
)
def test_text_that_is_live_in_a_format_is_caught(place: Place, name: str, out: str) -> None:
    assert "no text is markup" in judged(place, name=f"compare {name}", out=out)


def test_a_command_that_does_its_work_breaks_no_law(place: Place) -> None:
    assert judged(place, lambda place: (place.work / "page.html").write_text("x"), out="written: page.html\n") == []
    assert judged(place, code=2, err="molex: a path must be a folder, got none\n") == []


def test_a_training_that_was_stopped_is_no_hang(place: Place) -> None:
    def trains(place: Place) -> None:
        (place.work / "page.html").mkdir()
        (place.work / "page.html" / "events.jsonl").write_text('{"event": "step"}\n')

    assert "it ends in time" not in judged(place, trains, stopped=["SIGTERM"], code=130)


CONTENT = {
    "record.json": json.dumps({"status": "finished", "scores": {"last": [1, 2]}, "seed": 0}),
    "events.jsonl": '{"event": "step", "step": 1}\n{"event": "finished"}\n',
    "rows.csv": "a,b,label\nx1,y 1,yes\nx2,é,no\n",
    "own.yaml": "name: own\ncolumns: [a, b]\n",
    "adapter.safetensors": None,
}


def with_content(folder: Path, name: str) -> Path:
    path = folder / name
    if CONTENT[name] is None:
        about = {"__metadata__": {"molex": json.dumps({"settings": {"seed": 0}})}}
        header = json.dumps(about | {"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"\1\2")
    else:
        path.write_text(CONTENT[name], encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CONTENT)
def test_every_kind_of_damage_changes_what_lies_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    whole = with_content(tmp_path, name).read_bytes()
    for kind in dict.fromkeys(kinds(tmp_path / name)):
        changed = 0
        for at in range(8):
            (tmp_path / "run").mkdir(exist_ok=True)
            path = with_content(tmp_path / "run", name)
            damage(path, kind, at, "null")
            changed += not path.is_file() or path.is_symlink() or path.read_bytes() != whole
            path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
        assert changed > 4 or (kind in ("zeros", "cut") and changed), kind
    assert {*BYTES, *NODES} <= set(kinds(tmp_path / name)) <= {*BYTES, *NODES, *FAMILIES}


def test_a_try_is_repeated_from_its_line() -> None:
    one = Try(
        "eval lora", ("seed=\udcff",), "outputs/x/record.json", "value", 7, '"\ud800"', {"HOME": None, "USER": ""}
    )
    assert of_json(str(one)) == one
    for one in (Try("list"), Try("", ("diff", "a", "\x1b"))):
        assert of_json(str(one)) == one


def test_a_report_is_printed_whatever_was_tried() -> None:
    report = Report()
    report.add("diff ...", Try("", ("diff", "\udcff\x1b")), [Broken("a failure is told", "exit code 2: '\\x1b'")])
    report.add("list", Try("list"), [])
    report.merge(Report(report.tried.copy(), report.held.copy(), dict(report.found)))
    assert str(report).isascii()
    assert "\x1b" not in str(report)
    assert "tried 4, held 2" in str(report)
