"""Signals that end a process in good order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LAST_BREATH_SECONDS = 60.0  # for a process that was told to end to write its record


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a run as Ctrl-C does: with its record written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(signum).name)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
