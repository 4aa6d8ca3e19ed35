"""Signals that end a process in good order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SHUTDOWN_GRACE_SECONDS = 60.0  # for a process that was told to end to write its record
_asked: list[str] = []  # signals that asked this process to end: handlers belong to the process


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a run as Ctrl-C does: with its record written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        _asked.append(signal.Signals(signum).name)
        raise KeyboardInterrupt(_asked[-1])

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def require_running() -> None:
    """Raise KeyboardInterrupt if a signal asked to end: Python drops what is raised in a destructor or a callback."""
    if _asked:
        raise KeyboardInterrupt(_asked[-1])
