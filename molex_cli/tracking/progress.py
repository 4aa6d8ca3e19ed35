"""How far a run is, read from its events.jsonl while another process, perhaps on another machine, writes it."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molex_cli.metrics.base import scored_class
from molex_cli.records.event_lines import ProgressLine
from molex_cli.records.parts import SELECTION
from molex_cli.records.reading import fitting

MOST_BYTES = 1 << 22  # of one look; what a run wrote before is read in several


@dataclass
class Progress:
    """How far a run is. Nothing is known before it begins to train, nor once it has ended."""

    step: int = 0
    steps: int = 0
    """Of the whole run."""
    first_step: int = 0
    """Steps that an earlier try of the run had done."""
    loss: float | None = None
    """Smoothed task loss, as a single run shows it."""
    metric: str = ""
    """The first metric, with the class that it scores."""
    score: float | None = None
    """Of the last evaluation."""
    positive: str | None = None
    step_seconds: float | None = None
    """Smoothed."""
    evaluation_seconds: float = 0.0
    """Of all evaluations since the first step."""

    @property
    def seconds_left(self) -> float | None:
        """Return the time left at the pace of the steps and evaluations so far; None before the first step."""
        done = self.step - self.first_step
        if self.step_seconds is None or done < 1:
            return None
        return max(0, self.steps - self.step) * (self.step_seconds + self.evaluation_seconds / done)

    def words(self) -> list[str]:
        """Return step of steps, loss, score and time left, as far as they are known."""
        known = [f"step {self.step}/{self.steps}"]
        known += [] if self.loss is None else [f"loss {self.loss:.4f}"]
        known += [] if self.score is None else [f"{self.metric} {self.score:.4f}"]
        return known + ([] if self.seconds_left is None else [f"about {duration(self.seconds_left)} left"])


class Follower:
    """Follows the events of one run; a look reads only what was added since the one before."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "events.jsonl"
        self._read = 0
        self._file: tuple[int, int] | None = None
        self._cut = b""
        self._now: Progress | None = None

    def look(self) -> Progress | None:
        """Return how far the run is; None while that is unknown, as where the file is not there yet."""
        try:
            added = self._added()
        except OSError:  # not there yet, or a disk of another machine that is away for a moment
            return self._now
        *lines, self._cut = (self._cut + added).split(b"\n")  # the last one may be half written
        for _, event in fitting(lines, ProgressLine):
            self._now = _after(event, self._now)
        return self._now

    def _added(self) -> bytes:
        """Return what was written since the last look; from the start where the run was resumed in a new file."""
        with open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                return b""
            if self._file != (about.st_dev, about.st_ino) or about.st_size < self._read:
                self._file, self._read, self._cut, self._now = (about.st_dev, about.st_ino), 0, b"", None
            file.seek(self._read)
            added = file.read(MOST_BYTES)
        self._read += len(added)
        return added


def duration(seconds: float) -> str:
    """Return a time in words: 40 s, 12 min, 3.5 h."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _after(event: dict[str, Any], before: Progress | None) -> Progress | None:
    """Return how far a run is after an event."""
    kind = event["event"]
    if kind == "started":
        first = event.get("first_step", 0)
        metric, score = (before.metric, before.score) if before else ("", None)
        steps, positive = event.get("total_steps", 0), event.get("positive")
        return Progress(first, steps, first, metric=metric, score=score, positive=positive)
    if kind == "finished" or before is None:
        return None
    if kind == "step":
        before.step = event.get("step", before.step)
        before.loss = _smoothed(before.loss, event.get("loss"))
        before.step_seconds = _smoothed(before.step_seconds, event.get("seconds"))
    if kind == "evaluated":
        before.evaluation_seconds += event.get("seconds") or 0.0
        name, score = next(iter((event.get("scores") or {}).items()), ("", None))
        if event.get("split") != SELECTION:
            before.metric = scored_class(name, before.positive)
            before.score = score if isinstance(score, int | float) else None
    return before


def _smoothed(before: float | None, now: float | None) -> float | None:
    return now if before is None or now is None else 0.9 * before + 0.1 * now
