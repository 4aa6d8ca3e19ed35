"""What a sweep shows while it runs: on a terminal of any width, on a dumb one, and in a file."""

import io
import json

import pytest
from rich.cells import cell_len

from molex_cli.launching import view
from molex_cli.launching.running import shortened
from molex_cli.launching.status import JobState, Status, write_status
from molex_cli.runtime.terminal import Terminal

LABELS = ["method=lora train.learning_rate=0.001 seed=0", "method=mola_inverted train.learning_rate=0.001 seed=1"]


def running(folder, *labels):
    """Return the jobs of a sweep that run: the first has made 30 of 120 steps, the others begin."""
    paths = []
    for number, _ in enumerate(labels):
        run = folder / f"run{number}"
        run.mkdir()
        if number == 0:
            events = [
                {"event": "started", "total_steps": 120},
                {"event": "step", "step": 30, "loss": 0.25, "seconds": 1.0},
                {"event": "evaluated", "step": 30, "split": "validation", "loss": 1, "scores": {"accuracy": 0.75}},
            ]
            (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        paths.append(folder / f"{number:04}.json")
        write_status(paths[-1], Status(JobState.running, str(run), ran=True))
    return paths


def terminal_of(width, **settings):
    return Terminal(file=io.StringIO(), force_terminal=True, width=width, color_system=None, **settings)


def live(paths, labels, width):
    """Return the lines of the live view."""
    terminal = terminal_of(width, _environ={"TERM": "xterm"})
    with view.View(paths, labels, terminal) as shown:
        shown.update()
        with terminal.capture() as captured:
            terminal.print(shown._shown())
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [140, 80, 50, 30])
def test_no_line_of_the_live_view_is_wider_than_the_terminal(tmp_path, width):
    lines = live(running(tmp_path, *LABELS), LABELS, width)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) == 4  # two jobs, the bar, the counts
    assert "30/120" in lines[0]
    assert "starting" in lines[1]


def test_a_running_job_shows_step_loss_score_and_time_left(tmp_path):
    first, *_ = live(running(tmp_path, *LABELS), LABELS, 140)
    assert LABELS[0] in first
    for words in ("30/120", "loss 0.2500", "accuracy 0.7500", "90 s left"):
        assert words in first


def test_where_there_is_little_room_the_score_stays_and_the_seed(tmp_path):
    first, *_ = live(running(tmp_path, *LABELS), LABELS, 60)
    assert "accuracy 0.7500" in first
    assert "seed=0" in first
    assert "left" not in first


def test_of_a_label_the_keys_go_first_and_then_the_middle():
    assert shortened("method=lora seed=0", 18) == "method=lora seed=0"
    assert shortened("method=lora seed=0", 11) == "lora seed=0"
    assert shortened("method=lora model.config.size=32 seed=0", 17) == "lora 32 seed=0"
    assert shortened("method=lora seed=0", 9) == "lora…ed=0"
    assert cell_len(shortened("任务" * 20, 11)) <= 11


def test_of_many_running_jobs_the_first_are_shown_and_the_others_counted(tmp_path):
    labels = [f"seed={number}" for number in range(11)]
    lines = live(running(tmp_path, *labels), labels, 80)
    assert [line.split()[1] for line in lines[:8]] == labels[:8]
    assert lines[8].strip() == "and 3 more"


def test_without_a_terminal_lines_come_at_longer_and_longer_intervals(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    terminal = Terminal(file=io.StringIO(), width=80, soft_wrap=True)
    shown = view.View(running(tmp_path, *LABELS), LABELS, terminal)
    shown.update()
    said = []
    for second in range(0, 3600, 5):
        now[0] = float(second)
        before = len(terminal.file.getvalue().splitlines())
        shown.update()
        said += [second] if len(terminal.file.getvalue().splitlines()) > before else []
    assert said == [30, 90, 210, 450, 930, 1530, 2130, 2730, 3330]
    words = f"[0/2] running  {LABELS[0]}  step 30/120  loss 0.2500  accuracy 0.7500  about 90 s left"
    assert words in terminal.file.getvalue().splitlines()


def test_a_dumb_terminal_gets_lines_and_nothing_that_moves_the_cursor(tmp_path):
    terminal = terminal_of(80, soft_wrap=True, _environ={"TERM": "dumb"})
    with view.View(running(tmp_path, *LABELS), LABELS, terminal) as shown:
        shown.update()
    text = terminal.file.getvalue()
    assert "\x1b" not in text
    assert text.splitlines() == [f"[0/2] running  {label}" for label in LABELS]


def test_what_was_there_already_is_one_line(tmp_path):
    paths = [tmp_path / f"{number:04}.json" for number in range(5)]
    for path, state in zip(paths, ("finished", "finished", "failed"), strict=False):
        write_status(path, Status(JobState(state), str(tmp_path)))
    terminal = Terminal(file=io.StringIO(), width=80, soft_wrap=True)
    with view.View(paths, [f"seed={i}" for i in range(5)], terminal, resumed=1):
        pass
    (line,) = terminal.file.getvalue().splitlines()
    assert line == "there already: 2 finished, 1 failed, 1 interrupted; to run: 2 of 5"


def test_a_narrow_terminal_breaks_no_folder_of_the_table(tmp_path, capsys):
    paths = [tmp_path / "0000.json"]
    folder = "outputs/builtin-nli-mola_inverted-minilm-8013dcd2065a-s0"
    write_status(paths[0], Status(JobState.finished, folder, 0.5, "accuracy", 12.0, ran=True))
    for width, lines in ((60, 3), (140, 2)):
        terminal = terminal_of(width, soft_wrap=True)
        shown = view.View(paths, LABELS[:1], terminal)
        shown.update()
        before = len(terminal.file.getvalue())
        shown.show_end()
        found = (terminal.file.getvalue()[before:] + capsys.readouterr().out).splitlines()
        assert len(found) == lines
        assert sum(folder in line for line in found) == 1
