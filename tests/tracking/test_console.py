"""What a run shows: one line in place on a live terminal, plain lines elsewhere, paths always whole."""

import io
import re
import sys

import pytest

from molex_cli.runtime.terminal import Terminal
from molex_cli.tracking.console import Console
from molex_cli.tracking.events import Evaluated, Finished, Noted, Started, Step

PATH = "/data/" + "a_folder_with_a_long_name/" * 6 + "record.json"


class Screen(io.StringIO):
    """Standard error of someone who looks at a terminal."""

    def isatty(self):
        return True


def events():
    yield Started(
        name="task method model", variant="abc", seed=0, folder="f", total_steps=20, total_tokens=100,
        parameters={"total": 1}, experts_per_layer=None, rank_per_layer=None, constant={}, positive=None,
        flops_per_token={}, data={}, settings={}, first_step=0,
    )  # fmt: skip
    for step in range(1, 21):
        yield Step(
            step=step, epoch=step / 10, loss=0.5, balance_loss=None, learning_rate=0.1, gradient_norm=1.0,
            tokens=10, seconds=1.0,
        )  # fmt: skip
        if step == 10:
            yield Noted(message=f"{PATH} is there")
            yield Evaluated(
                step=step, epoch=1.0, split="validation", loss=0.1, scores={"accuracy": 0.5}, best=True, seconds=1.0
            )


def finished(status):
    return Finished(
        status=status, folder=PATH.removesuffix("/record.json"), scores={}, training={}, memory_bytes={},
        degenerate=[], error=None,
    )  # fmt: skip


def shown(monkeypatch, width, status="finished", **environment):
    """Return what the events of a run write to a terminal of so many characters."""
    file = io.StringIO()
    terminal = Terminal(
        file=file, width=width, force_terminal=True, soft_wrap=True, _environ={"TERM": "xterm", **environment}
    )
    monkeypatch.setattr(sys, "stderr", Screen())
    console = Console(terminal)
    for event in events():
        console.write(event)
        if getattr(event, "step", 0) == 5:
            print(f"a library says: {PATH}", file=sys.stderr)
    console.write(finished(status))
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 140])
def test_no_width_of_a_terminal_breaks_a_path(monkeypatch, width):
    text = shown(monkeypatch, width)
    assert "\x1b[2K" in text  # a bar that is drawn in place
    assert f"finished  {PATH}\n" in text
    assert f"note: {PATH} is there\n" in text
    assert f"a library says: {PATH}\n" in text


@pytest.mark.parametrize("width", [20, 40, 80, 140])
def test_the_bar_keeps_to_one_line(monkeypatch, width):
    for line in shown(monkeypatch, width).split("\x1b[2K"):
        if "/20" in line and "\n" not in line.strip():
            assert len(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).strip("\r\n")) <= width


@pytest.mark.parametrize(("width", "told"), [(60, ["20/20", "loss"]), (80, ["epoch 2.00", "accuracy", "tokens/s"])])
def test_a_narrow_bar_says_what_has_room_in_full(monkeypatch, width, told):
    last = shown(monkeypatch, width).split("\x1b[2K")[-1]
    assert "…" not in last
    assert not [each for each in told if each not in last]


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_who_wants_no_escapes_gets_the_lines_of_a_pipe(monkeypatch, environment):
    text = shown(monkeypatch, 80, **environment)
    assert "\x1b[2K" not in text
    assert text.count("\nstep ") == 10


def test_an_interrupted_run_says_what_resumes_it(monkeypatch):
    assert f"interrupted  {PATH}; the same command resumes it\n" in shown(monkeypatch, 80, status="interrupted")
    assert "the same command" not in shown(monkeypatch, 80)
