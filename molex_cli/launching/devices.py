"""Devices that jobs lease from each other, whichever sweep on the machine they belong to."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PAUSE_SECONDS = 0.2


@contextmanager
def lease(devices: Sequence[str], jobs_per_device: int, folder: Path | None = None) -> Iterator[str | None]:
    """Wait for a free slot on the least used device and hold it; yield the device's id, None where there are none.

    A lease is a file lock: sweeps that know nothing of each other share it, and it ends with the process that holds it.
    """
    if not devices:
        yield None
        return
    folder = folder or Path(tempfile.gettempdir()) / f"molex-devices-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    slots = [(device, slot) for slot in range(jobs_per_device) for device in devices]
    while True:
        for device, slot in slots:
            lock = FileLock(folder / f"{device.replace('/', '-')}.{slot}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield device
            finally:
                lock.release()
            return
        time.sleep(PAUSE_SECONDS)
