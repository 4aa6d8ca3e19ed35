"""The terminal: a progress bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from molex_cli.metrics.base import scored_class
from molex_cli.runtime.terminal import Terminal
from molex_cli.tracking.events import Evaluated, Event, Finished, Noted, Started, Step

PLAIN_LINES = 10  # lines of steps that a run without a terminal prints
SHOWN_LABELS = 12
WIDE, NARROW = 110, 72  # characters of a terminal that has room for all there is, and for all but the bar itself


class Console:
    """Shows what a run does to the person who started it."""

    def __init__(self, terminal: Terminal | None = None) -> None:
        self._terminal = terminal or Terminal(soft_wrap=True)
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._total = 0
        self._score = ""
        self._loss: float | None = None
        self._rate: float | None = None
        self._positive: str | None = None

    def write(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Started():
                self._start(event)
            case Step():
                self._step(event)
            case Evaluated():
                self._evaluated(event)
            case Noted():
                self._terminal.print(f"note: {event.message}")
            case Finished():
                self.close()
                self._finished(event)

    def close(self) -> None:
        """Take the progress bar down."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start(self, event: Started) -> None:
        say = self._terminal.print
        say(Text.assemble((event.name, "bold"), f"  seed {event.seed}  variant {event.variant}"))
        for name, spread in (("experts per layer", event.experts_per_layer), ("rank per layer", event.rank_per_layer)):
            if spread:
                say(f"{name:17}  {' '.join(map(str, spread))}  total {sum(spread)}")
        counts = event.parameters
        parts = "  ".join(f"{name} {count:,}" for name, count in counts.items() if name not in ("added", "total"))
        say(f"parameters         {parts}  of {counts['total']:,}")
        self._positive = event.positive
        for split, data in event.data.items():
            if split.rpartition("/")[2] == "train" and (line := _labels(data.get("labels", {}), event.positive)):
                say(f"labels             {line}")
        resumed = f", resuming after step {event.first_step:,}" if event.first_step else ""
        say(f"training           {event.total_steps:,} steps, {event.total_tokens:,} tokens{resumed}")
        self._total = event.total_steps
        if self._terminal.is_live:
            self._progress = _bar(self._terminal)
            self._bar = self._progress.add_task("", total=self._total, epoch="", loss="-", score="", rate="-")
            self._progress.start()

    def _step(self, event: Step) -> None:
        rate = event.tokens / event.seconds
        self._loss = event.loss if self._loss is None else 0.9 * self._loss + 0.1 * event.loss
        self._rate = rate if self._rate is None else 0.9 * self._rate + 0.1 * rate
        if self._progress is not None and self._bar is not None:
            shown: dict[str, Any] = {"epoch": f"epoch {event.epoch:.2f}", "loss": f"{self._loss:.4f}"}
            shown |= {"rate": f"{self._rate:,.0f}", "score": self._score}
            self._progress.update(self._bar, completed=event.step, **shown)
        elif event.step % max(1, self._total // PLAIN_LINES) == 0:
            self._terminal.print(
                f"step {event.step}/{self._total}  epoch {event.epoch:.2f}  loss {self._loss:.4f}  "
                f"{self._rate:,.0f} tokens/s"
            )

    def _evaluated(self, event: Evaluated) -> None:
        named = ((scored_class(name, self._positive), value) for name, value in event.scores.items())
        self._score = "  ".join(f"{name} {value:.4f}" for name, value in named)
        best = "  best so far" if event.best else ""
        loss = f"epoch {event.epoch:.2f}  {event.split} loss {event.loss:.4f}  "
        self._terminal.print(Text.assemble(loss, (self._score, "bold"), best))

    def _finished(self, event: Finished) -> None:
        say = self._terminal.print
        if event.scores:
            for name, value in event.scores["last"]["scores"].items():
                best, floor = event.scores["best"]["scores"][name], event.scores["constant"].get(name)
                baseline = "" if floor is None else f"  best constant {floor:.4f}"
                shown = scored_class(name, self._positive)
                say(Text.assemble((f"{shown} {value:.4f}", "bold"), f" at the end  best {best:.4f}{baseline}"))
        if event.error and event.error != "KeyboardInterrupt":
            say(f"{event.status}: {event.error}")
        resumes = "; the same command resumes it" if event.status == "interrupted" else ""
        say(f"{event.status}  {event.folder}/record.json{resumes}")


def _bar(terminal: Terminal) -> Progress:
    """Return a bar that keeps to one line: where it is narrow, more is left out.

    What others print meanwhile goes above it, unless it goes to a file.
    """
    loss, rest = "loss {task.fields[loss]}", "{task.fields[score]}  {task.fields[rate]} tokens/s"
    epoch = TextColumn("{task.fields[epoch]}", markup=False)
    told = TextColumn(loss if terminal.width < NARROW else f"{loss}  {rest}", markup=False)
    columns: list[ProgressColumn] = [MofNCompleteColumn(), told, TimeRemainingColumn()]
    if terminal.width >= NARROW:
        columns.insert(0, epoch)
    if terminal.width >= WIDE:
        columns.insert(1, BarColumn())
    return Progress(*columns, console=terminal, redirect_stderr=sys.stderr is not None and sys.stderr.isatty())


def _labels(rows_of: Mapping[str, int], positive: str | None) -> str:
    """Return each label with its training rows, of many only the first, and the one that is positive."""
    shown = ", ".join(f"{label} {count:,}" for label, count in list(rows_of.items())[:SHOWN_LABELS])
    others = f", ... ({len(rows_of)} labels)" if len(rows_of) > SHOWN_LABELS else ""
    return f"{shown}{others}" + (f"  positive {positive}" if positive is not None else "")
