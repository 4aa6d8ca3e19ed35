"""The jobs of a sweep that run: how far each is, as rows of the live view and as plain lines."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from molex_cli.launching.status import JobState, Status
from molex_cli.runtime.streams import visible
from molex_cli.tracking.progress import Follower, Progress, duration

MOST_ROWS = 8
BEGINNING, GAP = "running  ", "  "
KEYS = re.compile(r"(?<!\S)(?!seed=)[\w./@+~]+=")
LEAST_LABEL = 12
LESS_AND_LESS = (3, 1, 2)  # cells that go where there is no room: time left, loss, score


class Running:
    """Follows the runs of the jobs that run, each by the events in its folder, whatever launched it."""

    def __init__(self) -> None:
        self._followers: dict[int, tuple[str, Follower]] = {}
        self.progress: dict[int, Progress | None] = {}
        """By the job's number, in the order of jobs; None before its training begins."""

    def look(self, statuses: Sequence[Status]) -> None:
        """See how far each running job is; of those that ended nothing is kept."""
        running = {i: each.folder or "" for i, each in enumerate(statuses) if each.state is JobState.running}
        self._followers = {i: self._follower(i, folder) for i, folder in running.items()}
        self.progress = {i: follower.look() for i, (_, follower) in self._followers.items()}

    def _follower(self, number: int, folder: str) -> tuple[str, Follower]:
        known = self._followers.get(number)
        return known if known and known[0] == folder else (folder, Follower(Path(folder)))


def rows(progress: Mapping[int, Progress | None], labels: Sequence[str], width: int) -> list[Text]:
    """Return a row for each of the first running jobs, none wider than the terminal.

    Where there is little room the time left goes first, then the loss, the score, and the middle of the labels.
    """
    shown = list(progress.items())[:MOST_ROWS]
    cells = [_cells(each) for _, each in shown]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for gone in LESS_AND_LESS:
        if _room(width, widths) < LEAST_LABEL:
            widths = [0 if i == gone else size for i, size in enumerate(widths)]
    names = [shortened(labels[i], max(_room(width, widths), 1)) for i, _ in shown]
    longest = max(map(cell_len, names), default=0)
    found = []
    for name, row in zip(names, cells, strict=True):
        beside = "".join(f"{GAP}{cell:>{size}}" for cell, size in zip(row, widths, strict=True) if size)
        found.append(_line((f"{BEGINNING}{set_cell_size(name, longest)}", "cyan"), beside))
    more = len(progress) - len(shown)
    return [*found, *([_line((f"and {more} more", "dim"))] if more else [])]


def _room(width: int, widths: Sequence[int]) -> int:
    """Return the room for a label beside columns that are so wide."""
    return width - len(BEGINNING) - sum(size + len(GAP) for size in widths if size)


def shortened(label: str, room: int) -> str:
    """Return a label in so many cells of a terminal: its keys go but for the seed's, then its middle."""
    label = visible(label)
    if cell_len(label) > room:
        label = KEYS.sub("", label)
    if cell_len(label) <= room:
        return label
    start = set_cell_size(label, (room - 1) // 2)
    end = set_cell_size(label[::-1], room - 1 - cell_len(start))[::-1]
    return f"{start}…{end}"


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def lines(progress: Mapping[int, Progress | None], labels: Sequence[str]) -> list[str]:
    """Return a line on each of the first running jobs, and one on how many there are besides."""
    known = list(progress.items())
    found = [f"running  {'  '.join([labels[i], *(each.words() if each else ['starting'])])}" for i, each in known]
    return found[:MOST_ROWS] + ([f"and {len(found) - MOST_ROWS} more running"] if len(found) > MOST_ROWS else [])


def _cells(progress: Progress | None) -> tuple[str, str, str, str]:
    """Return what stands beside a job's label: step, loss, score and time left, as far as they are known."""
    if progress is None:
        return "starting", "", "", ""
    loss = "" if progress.loss is None else f"loss {progress.loss:.4f}"
    score = "" if progress.score is None else f"{progress.metric} {progress.score:.4f}"
    left = "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"
    return f"{progress.step}/{progress.steps}", loss, score, left
