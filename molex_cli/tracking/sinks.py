"""Where events go. A sink only receives; one that fails is dropped and never stops a training."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from molex_cli.runtime.signals import require_running
from molex_cli.tracking.events import Event, Noted


class Sink(Protocol):
    """Receives the events of one run."""

    def write(self, event: Event) -> None:
        """Take one event."""

    def close(self) -> None:
        """Finish; called once, also after a failure."""


class Sinks:
    """Gives every event to every sink; of one that fails the others get a note."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._open = list(sinks)

    def write(self, event: Event) -> None:
        """Give the event to each open sink."""
        for sink in list(self._open):
            try:
                sink.write(event)
            except Exception as error:  # whatever a logger does, the training continues
                self._drop(sink, error)

    def pass_on(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass on each event after the sinks have it; raise KeyboardInterrupt if the process is to end."""
        for event in events:
            self.write(event)
            require_running()
            yield event

    def close(self) -> None:
        """Close each open sink, the local ones last: they get the notes of the others."""
        for sink in reversed(list(self._open)):
            try:
                sink.close()
            except Exception as error:
                self._drop(sink, error)

    def _drop(self, sink: Sink, error: Exception) -> None:
        self._open.remove(sink)
        with contextlib.suppress(Exception):
            sink.close()
        name = type(sink).__name__
        self.write(Noted(message=f"{name} failed and is off for the rest of the run ({type(error).__name__}: {error})"))
