"""Every event as one line of events.jsonl."""

from collections.abc import Iterator
from pathlib import Path

from molex_cli.records import as_json, disk_error, lines_of, write_text
from molex_cli.records.event_lines import EventLine
from molex_cli.records.reading import fitting
from molex_cli.tracking.events import Event, Step


class Jsonl:
    """Appends events to a file, each at once."""

    def __init__(self, path: Path, every: int = 1, keep_until: int | None = None) -> None:
        """Open the file; what an earlier try of the run did after step `keep_until` is done and written again."""
        if path.exists():
            write_text(path, "".join(_until(path, keep_until)))
        self._file = path.open("ab", buffering=0)
        self._waiting = b""
        self._every = every

    def write(self, event: Event) -> None:
        """Append the event; of the steps only every so many."""
        if isinstance(event, Step) and event.step % self._every:
            return
        self._waiting += (as_json(event.as_dict()) + "\n").encode()
        try:
            self._write_waiting()
        except OSError as error:
            if not disk_error(error):
                raise  # else it is written with a later event, if it can be then

    def close(self) -> None:
        """Close the file, with all written that found no room before."""
        with self._file:
            self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]


def _until(path: Path, step: int | None) -> Iterator[str]:
    """Yield the lines up to a step, and no end, for the run is resumed; None yields nothing."""
    if step is None:
        return
    for line, event in fitting(lines_of(path), EventLine):
        if event["event"] != "finished" and event.get("step", 0) <= step:
            yield line.decode() + "\n"
