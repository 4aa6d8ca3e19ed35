"""Signals that end a process in good order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SHUTDOWN_GRACE_SECONDS = 60.0  # that a process which must end has to write its record
_received: list[str] = []  # signals to end this process: handlers belong to the process


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a run as Ctrl-C does: with its record written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        _received.append(signal.Signals(signum).name)
        raise KeyboardInterrupt(_received[-1])

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if getattr(before, "__name__", "") != interrupt.__name__:  # else whoever is around this still has to see it
            _received.clear()


def require_running() -> None:
    """Raise KeyboardInterrupt again after a signal: Python drops one that is raised in a destructor or a callback."""
    if _received:
        raise KeyboardInterrupt(_received[-1])
