"""Output: no text is markup or beyond an encoding, and a reader who leaves ends no run."""

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from support.made_records import leave

from molex_cli.cli import main
from molex_cli.runtime.streams import safe_streams, say
from molex_cli.runtime.terminal import Terminal, show, styled
from molex_cli.tracking.console import Console
from molex_cli.tracking.events import Noted
from molex_cli.tracking.sinks import Sinks

STRANGE = "a [/INST] [bold] :smile: ↑"


@contextmanager
def closed_pipe(name="stdout"):
    """Let a standard stream be a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    before = getattr(sys, name)
    with open(writing, "w", encoding="utf-8") as stream:
        setattr(sys, name, stream)
        try:
            yield
        finally:
            setattr(sys, name, before)


def test_a_run_outlives_the_reader_of_its_console():
    with closed_pipe(), closed_pipe("stderr"):
        assert main(["train", "experiment=smoke", "method=head", "train.max_steps=2", "hardware.threads=1"]) == 0
    (path,) = Path("outputs").glob("*/record.json")
    assert json.loads(path.read_text())["status"] == "finished"


def test_a_console_that_cannot_write_is_dropped_and_the_others_hear_of_it():
    class Unread(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    class Kept:
        heard = []  # noqa: RUF012

        def write(self, event):
            self.heard.append(event.message)

        def close(self):
            pass

    sinks = Sinks([Console(Terminal(file=Unread())), Kept()])
    sinks.write(Noted(message="first"))
    sinks.write(Noted(message="second"))
    assert Kept.heard[-1] == "second"
    assert "Console failed and is off" in " ".join(Kept.heard)


def test_other_commands_end_quietly_when_their_reader_leaves(capfd):
    for arguments in (["list", "methods"], ["--help"], ["train", "experiment=smoke", "--cfg", "job"]):
        with closed_pipe():
            assert main(arguments) == (0 if arguments[0] == "train" else 141)
    assert capfd.readouterr().err == ""


def test_no_reader_of_both_streams_leaves_a_trace():
    code = (
        "import sys\nfrom molex_cli.cli import main\nfrom molex_cli.runtime.streams import safe_streams, say\n"
        "with safe_streams(outlive_readers=True):\n"
        "    for i in range(99999): print('line', i); print('line', i, file=sys.stderr)\n"
        "sys.exit(3)"
    )
    reading, writing = os.pipe()
    os.close(reading)
    assert subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=writing, timeout=60).returncode == 3
    os.close(writing)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_text_beyond_the_encoding_is_escaped_as_in_json(encoding, monkeypatch, tmp_path):
    text = "déjà ↑ ▽ 😀"
    with (tmp_path / "shown").open("w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with safe_streams():
            print(json.dumps(text, ensure_ascii=False))
            Terminal().print("▽")
        monkeypatch.undo()
    first, second = (tmp_path / "shown").read_text(encoding=encoding).splitlines()
    assert json.loads(first) == text
    assert second == r"\u25bd"


def test_no_text_is_markup():
    terminal = Terminal(width=200, file=io.StringIO())
    terminal.print(STRANGE)
    table = Table(STRANGE, title=STRANGE)
    table.add_row(STRANGE)
    terminal.print(table)
    assert terminal.file.getvalue().count(STRANGE) == 4


ACTS = "a\x1b[2J\x1b]0;title\x07b\rc\x9b5nd\u202ee\udc80f\x00\u2028\U000e0041"


def unseen(text):
    """Return the characters of a text that act on a terminal instead of being shown."""
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@pytest.mark.parametrize("styles", ["", "1"])
def test_no_text_acts_on_a_terminal(styles, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", styles)
    say(ACTS, f"{ACTS}\n")
    terminal = Terminal(width=1000)
    terminal.print(ACTS, Text(ACTS), style="bold")
    table = Table(ACTS, title=ACTS)
    table.add_row(ACTS)
    table.add_row(styled(ACTS, "bold"))
    show(table)
    shown = capsys.readouterr().out
    assert not unseen(re.sub(r"\x1b\[[\d;]*m", "", shown))  # without our own styles
    assert bool(styles) == ("\x1b" in shown)
    assert shown.count(r"a\u001b[2J\u001b]0;title") == 2 + 2 + 4
    assert shown.count(r"\u202ee\udc80f\u0000\u2028\udb40\udc41") == 2 + 2 + 4


def test_what_is_said_as_json_stays_json(capsys):
    say(json.dumps([ACTS, "▽\t"], ensure_ascii=False))
    assert json.loads(capsys.readouterr().out) == [ACTS, "▽\t"]


def test_every_command_shows_hostile_text_of_its_user_and_of_records(capsys):
    leave(Path("outputs/one"), ACTS[:-1].replace("\udc80", ""), 0)
    leave(Path("outputs/two\x1b[2J"), "b", 1, status="failed", error={"message": ACTS[:9]})
    for line in (["diff", "outputs/one", "outputs/two\x1b[2J"], ["compare", "outputs"], ["compare", "outputs/\x1b]0;x"],
                 ["experts", "outputs/two\x1b[2J", "outputs/one"], ["eval", "run=\x9b5n"], ["list", ACTS], [ACTS],
                 ["sync", "outputs\x1b"]):  # fmt: skip
        main(line)
        out, err = capsys.readouterr()
        assert out + err
        assert not unseen(out + err), line


def test_every_console_is_one_without_markup():
    root = Path(main.__code__.co_filename).parent.parent
    wrong = [
        path.name
        for path in root.rglob("*.py")
        if path.name != "terminal.py"
        and ("rich.console import Console" in path.read_text() or "[bold]" in path.read_text())
    ]
    assert not wrong


@pytest.mark.parametrize("form", ["table", "md", "latex", "csv", "json"])
def test_names_with_brackets_are_compared_as_they_are(form, capsys):
    for method in ("b [/INST]", "[bold]c"):
        for seed in range(2):
            leave(Path(f"outputs/{method[0]}{method[-1]}{seed}"), method, seed, task="a [/INST]")
    assert main(["compare", "outputs", "--format", form]) == 0
    shown = capsys.readouterr().out
    left = {"md": ("\\[", "\\]"), "latex": ("{[}", "{]}")}.get(form, ("[", "]"))
    for name in ("[/INST]", "[BOLD]"):
        assert name.replace("[", left[0]).replace("]", left[1]) in shown


def test_names_with_brackets_are_listed_and_told_apart(capsys):
    leave(Path("outputs/one"), "b [/INST]", 0)
    leave(Path("outputs/two"), "b [/]", 1)
    assert main(["diff", "outputs/one", "outputs/two"]) == 0
    shown = capsys.readouterr().out
    assert "b [/INST]" in shown
    assert "b [/]" in shown


@pytest.mark.parametrize(
    ("name", "arguments"), [("stdout", "--version"), ("stdout", "list tasks"), ("stderr", "no-command")]
)
def test_a_stream_that_is_closed_is_no_error(name, arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, name, None)
    assert main(arguments.split()) == (0 if name == "stdout" else 2)


@pytest.mark.parametrize(("wish", "shown"), [({}, 0), ({"PYTHONWARNINGS": "default"}, 2)])
def test_news_of_libraries_is_left_out_unless_somebody_asks_for_it(wish, shown, tmp_path):
    warn = "import warnings; warnings.warn('gone in v6', FutureWarning)"
    code = (
        "import subprocess, sys; from molex_cli.runtime.streams import without_news_of_libraries as without\n"
        f"without(); {warn}\nsubprocess.run([sys.executable, '-c', {warn!r}])"
    )
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run([sys.executable, "-c", code], env=clean | wish, capture_output=True, text=True, check=True)
    assert done.stderr.count("gone in v6") == shown
