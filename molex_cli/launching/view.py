"""What a sweep shows: a live view on a terminal, plain lines elsewhere, and one table at the end."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from molex_cli.launching.jobs import ENDED, Status, read_status

POLL_SECONDS = 0.3
STYLES = {"finished": "green", "failed": "bold red", "interrupted": "yellow", "elsewhere": "cyan"}


class View:
    """Follows the status files of a sweep's jobs and shows what changes."""

    def __init__(self, jobs: Sequence[Path], labels: Sequence[str], terminal: Terminal | None = None) -> None:
        self._jobs, self._labels = list(jobs), list(labels)
        self._terminal = terminal or Terminal(highlight=False, soft_wrap=True)
        self.statuses = [Status() for _ in jobs]
        self._seen: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live: Live | None = None
        self._started = time.monotonic()

    def __enter__(self) -> "View":
        self.look()
        if self._terminal.is_terminal:
            self._live = Live(self._shown(), console=self._terminal, refresh_per_second=4, transient=True)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.look()
        if self._live is not None:
            self._live.stop()

    def look(self) -> None:
        """Read the status files that changed and tell of jobs that ended."""
        for number, job in enumerate(self._jobs):
            if self.statuses[number].state in ENDED and self.statuses[number].state != "interrupted":
                continue  # what was interrupted may be queued again
            try:
                changed = job.with_suffix(".status.json").stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if changed == self._seen.get(number):
                continue
            self._seen[number], before = changed, self.statuses[number].state
            self.statuses[number] = read_status(job)
            if self.statuses[number].state != before:
                self._tell(number)
        if self._live is not None:
            self._live.update(self._shown())

    def table(self) -> Table:
        """Return the table of all jobs: what became of each, score, time, where."""
        table = Table(box=None, pad_edge=False)
        for name in ("job", "status", "score", "time", "where"):
            table.add_column(name, justify="right" if name in ("score", "time") else "left", no_wrap=True)
        for label, status in zip(self._labels, self.statuses, strict=True):
            state = Text(_state(status), style=STYLES.get(status.state, ""))
            score = "" if status.score is None else f"{status.metric} {status.score:.4f}"
            seconds = f"{status.seconds:,.0f} s" if status.seconds else ""
            table.add_row(Text(label), state, score, seconds, Text(status.folder or ""))
        return table

    def _follow(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.look()

    def _tell(self, number: int) -> None:
        """Print a line on a job that began or ended; on a terminal the live view shows those that began."""
        status, label = self.statuses[number], self._labels[number]
        if status.state == "running" and self._live is not None:
            return
        ended = sum(each.state in ENDED for each in self.statuses)
        score = "" if status.score is None else f"  {status.metric} {status.score:.4f}"
        line = f"[{ended}/{len(self._jobs)}] {_state(status)}  {label}{score}"
        line += f"  {status.error}" if status.error and status.state != "finished" else ""
        style = "" if status.state == "finished" else STYLES.get(status.state, "")
        self._terminal.print(line, markup=False, style=style)

    def _shown(self) -> RenderableType:
        counts = {state: sum(each.state == state for each in self.statuses) for state in (*ENDED, "running")}
        ended = sum(counts[state] for state in ENDED)
        running = [label for label, each in zip(self._labels, self.statuses, strict=True) if each.state == "running"]
        words = [f"{ended} of {len(self._jobs)} done"]
        words += [f"{counts[state]} {state}" for state in ENDED[1:] if counts[state]]
        left = self._seconds_left()
        words += [] if left is None else [f"about {_duration(left)} left"]
        lines = [Text(f"running  {label}", style="cyan") for label in running[:8]]
        return Group(*lines, ProgressBar(total=len(self._jobs), completed=ended, width=40), Text(", ".join(words)))

    def _seconds_left(self) -> float | None:
        """Return the time left at the pace at which jobs ended so far; None before the first."""
        ended = sum(each.state in ENDED and each.ran for each in self.statuses)
        waiting = sum(each.state not in ENDED for each in self.statuses)
        return None if not ended else (time.monotonic() - self._started) / ended * waiting


def _state(status: Status) -> str:
    before = "" if status.ran or status.state not in ("finished", "failed") else " before"
    return f"{status.state}{before}" + (" (degenerate)" if status.degenerate else "")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
