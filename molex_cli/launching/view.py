"""What a sweep shows: a live view on a terminal, plain lines elsewhere, and one table at the end."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from molex_cli.launching.status import JobState, Status, read_status, version_of
from molex_cli.runtime.terminal import Terminal, styled

POLL_SECONDS = 0.3
STYLES = {
    JobState.finished: "green",
    JobState.failed: "bold red",
    JobState.interrupted: "yellow",
    JobState.elsewhere: "cyan",
}


class View:
    """Follows the status files of a sweep's jobs and shows what changes."""

    def __init__(
        self, jobs: Sequence[Path], labels: Sequence[str], terminal: Terminal | None = None, about: Sequence[str] = ()
    ) -> None:
        self._jobs, self._labels, self._about = list(jobs), list(labels), about
        self._terminal = terminal or Terminal(soft_wrap=True)
        self.statuses = [Status() for _ in jobs]
        self._seen: dict[int, object] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live: Live | None = None
        self._started = time.monotonic()

    def __enter__(self) -> "View":
        self.update()
        if self._terminal.is_live:
            self._live = Live(self._shown(), console=self._terminal, refresh_per_second=4, transient=True)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.update()
        if self._live is not None:
            self._live.stop()

    def update(self) -> None:
        """Read the status files that changed, and print a line on each job whose state did."""
        for number, job in enumerate(self._jobs):
            self._update_job(number, job)
        if self._live is not None:
            self._live.update(self._shown())

    def table(self) -> Table:
        """Return the table of all jobs: what became of each, score, time, where."""
        table = Table(box=None, pad_edge=False)
        for name in ("job", "status", "score", "time", "where"):
            table.add_column(name, justify="right" if name in ("score", "time") else "left", no_wrap=True)
        for label, status in zip(self._labels, self.statuses, strict=True):
            state = styled(_words(status), STYLES.get(status.state, ""))
            score = "" if status.score is None else f"{status.metric} {status.score:.4f}"
            seconds = f"{status.seconds:,.0f} s" if status.seconds else ""
            table.add_row(label, state, score, seconds, status.folder or "")
        return table

    def _follow(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.update()

    def _update_job(self, number: int, job: Path) -> None:
        version = version_of(job)
        if version == self._seen.get(number):
            return
        before = self.statuses[number].state
        self._seen[number], self.statuses[number] = version, read_status(job)
        if self.statuses[number].state is not before:
            self._print_line(number)

    def _print_line(self, number: int) -> None:
        """Print a line on a job that began or ended; on a terminal the live view shows those that began."""
        status, label = self.statuses[number], self._labels[number]
        if status.state is JobState.running and self._live is not None:
            return
        succeeded = status.state is JobState.finished
        line = f"[{self._num_ended()}/{len(self._jobs)}] {_words(status)}  {label}"
        line += "" if status.score is None else f"  {status.metric} {status.score:.4f}"
        line += f"  {status.error}" if status.error and not succeeded else ""
        self._terminal.print(line, style="" if succeeded else STYLES.get(status.state, ""))

    def _shown(self) -> RenderableType:
        jobs = zip(self._labels, self.statuses, strict=True)
        running = [label for label, status in jobs if status.state is JobState.running]
        lines = [styled(line, "dim") for line in self._about]
        lines += [styled(f"running  {label}", "cyan") for label in running[:8]]
        ended = self._num_ended()
        words = [f"{ended} of {len(self._jobs)} done", *self._counts()]
        left = self._seconds_left()
        words += [] if left is None else [f"about {_duration(left)} left"]
        return Group(*lines, ProgressBar(total=len(self._jobs), completed=ended, width=40), ", ".join(words))

    def _counts(self) -> list[str]:
        """Return how many jobs ended otherwise than finished, by state."""
        counts = Counter(status.state for status in self.statuses)
        others = [state for state in JobState if state.is_end and state is not JobState.finished]
        return [f"{counts[state]} {state}" for state in others if counts[state]]

    def _num_ended(self) -> int:
        return sum(status.state.is_end for status in self.statuses)

    def _seconds_left(self) -> float | None:
        """Return the time left at the pace at which jobs ended so far; None before the first."""
        ended = sum(status.state.is_end and status.ran for status in self.statuses)
        waiting = len(self._jobs) - self._num_ended()
        return None if not ended else (time.monotonic() - self._started) / ended * waiting


def _words(status: Status) -> str:
    before = "" if status.ran or status.state not in (JobState.finished, JobState.failed) else " before"
    return f"{status.state}{before}" + (" (degenerate)" if status.degenerate else "")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
