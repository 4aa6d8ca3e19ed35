"""What a sweep shows: a live view on a terminal, plain lines elsewhere, and one table at the end."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from molex_cli.launching.running import Running, lines, rows
from molex_cli.launching.shown import say_line, show_rows
from molex_cli.launching.status import JobState, Status, read_status, version_of
from molex_cli.runtime.terminal import Terminal, styled
from molex_cli.tracking.progress import duration

POLL_SECONDS = 0.3
FIRST_LINES, MOST_SECONDS = 30.0, 600.0
"""Without a terminal, seconds until lines on the running jobs; then twice as many each time, up to so many."""
STYLES = {
    JobState.finished: "green",
    JobState.failed: "bold red",
    JobState.interrupted: "yellow",
    JobState.elsewhere: "cyan",
}


class View:
    """Follows the status files of a sweep's jobs and shows what changes."""

    def __init__(
        self,
        jobs: Sequence[Path],
        labels: Sequence[str],
        terminal: Terminal | None = None,
        about: Sequence[str] = (),
        resumed: int = 0,
    ) -> None:
        """`about` are lines above the live view; of the jobs so many resume an earlier try."""
        self._jobs, self._labels, self._about, self._resumed = list(jobs), list(labels), about, resumed
        self._terminal = terminal or Terminal(soft_wrap=True)
        self.statuses = [Status() for _ in jobs]
        self._seen: dict[int, object] = {}
        self._running = Running()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live: Live | None = None
        self._started = time.monotonic()
        self._wait = FIRST_LINES
        self._next_lines = self._started + self._wait

    def __enter__(self) -> "View":
        self._tell_earlier()
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
            self._running.look(self.statuses)
            self._live.update(self._shown())
        elif (now := time.monotonic()) >= self._next_lines:
            self._wait = min(2 * self._wait, MOST_SECONDS)
            self._next_lines = now + self._wait
            self._running.look(self.statuses)
            for line in lines(self._running.progress, self._labels):
                self._terminal.print(f"[{self._num_ended()}/{len(self._jobs)}] {line}")

    def show_end(self) -> None:
        """Print the table of all jobs: what became of each, score, time, where."""
        rows = []
        for label, status in zip(self._labels, self.statuses, strict=True):
            state, *others = _cells(status)
            rows.append(
                [styled(label, ""), styled(state, STYLES.get(status.state, "")), *(styled(x, "") for x in others)]
            )
        show_rows(self._terminal, ("job", "status", "score", "time", "where"), rows)

    def _tell_earlier(self) -> None:
        """Print one line on what was there before the sweep; what happens in it gets lines of its own."""
        found = {number: read_status(job) for number, job in enumerate(self._jobs)}
        earlier = {number: each for number, each in found.items() if each.state.is_end and not each.ran}
        for number, status in earlier.items():
            self._seen[number], self.statuses[number] = version_of(self._jobs[number]), status
        counts = [f"{count} {state}" for state, count in Counter(each.state for each in earlier.values()).items()]
        counts += [f"{self._resumed} interrupted"] if self._resumed else []
        if counts:
            left = len(self._jobs) - len(earlier)
            say_line(self._terminal, f"there already: {', '.join(counts)}; to run: {left} of {len(self._jobs)}")

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
        say_line(self._terminal, line, "" if succeeded else STYLES.get(status.state, ""))

    def _shown(self) -> RenderableType:
        about = [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in self._about]
        running = rows(self._running.progress, self._labels, self._terminal.width)
        ended = self._num_ended()
        words = [f"{ended} of {len(self._jobs)} done", *self._counts()]
        left = self._seconds_left()
        words += [] if left is None else [f"about {duration(left)} left"]
        # The bar ends no line, so the words stand beside it.
        bar = ProgressBar(total=len(self._jobs), completed=ended, width=max(4, min(40, self._terminal.width - 48)))
        return Group(*about, *running, bar, Text(f" {', '.join(words)}", no_wrap=True))

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


def _cells(status: Status) -> list[str]:
    """Return state, score, time and folder of a job."""
    score = "" if status.score is None else f"{status.metric} {status.score:.4f}"
    seconds = f"{status.seconds:,.0f} s" if status.seconds else ""
    return [_words(status), score, seconds, status.folder or ""]


def _words(status: Status) -> str:
    before = "" if status.ran or status.state not in (JobState.finished, JobState.failed) else " before"
    return f"{status.state}{before}" + (" (degenerate)" if status.degenerate else "")
