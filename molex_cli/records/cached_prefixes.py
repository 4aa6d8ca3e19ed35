"""What the cache folder keeps of frozen layers: one folder for each prefix of a model, and who uses it; no torch.

A prefix's folder is named by a hash of what it computes. Its files of hidden states are written whole or not at all and
never change; a file lock lets one process add to them at a time. Whoever reads holds a shared lock, so that nobody
clears what is in use.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from filelock import FileLock
from safetensors import SafetensorError, safe_open

from molex_cli.errors import RecordError
from molex_cli.records.files import as_json, write_text
from molex_cli.records.parts import Count
from molex_cli.records.reading import read_json

FOLDER = "prefixes"
ABOUT, BUILDING, USED = "about.json", ".building", ".used"
ROWS = "rows"  # the tensor of row keys in a file of hidden states
GIGABYTE = 10**9


class About(TypedDict):
    """Whose layers a folder is of."""

    model: str
    layers: Count


@dataclass(frozen=True)
class Entry:
    """One prefix in the cache."""

    folder: Path
    model: str
    layers: int
    rows: int
    bytes: int
    last_used: datetime
    in_use: bool

    @property
    def key(self) -> str:
        """Return what the prefix is known by."""
        return self.folder.name


def entries(cache_dir: Path) -> list[Entry]:
    """Return every prefix in the cache, the one used last at the end."""
    folders = [path for path in (cache_dir / FOLDER).glob("*") if path.is_dir()]
    return sorted(map(_entry, folders), key=lambda entry: (entry.last_used, entry.key))


def bytes_of(folder: Path) -> int:
    """Return how many bytes all files in a folder have."""
    return sum(map(_size, folder.rglob("*")))


def files_of(folder: Path) -> list[Path]:
    """Return the files of hidden states in a prefix's folder."""
    return sorted(folder.glob("*.safetensors"))


def describe(folder: Path, model: str, layers: int) -> None:
    """Say in a prefix's folder whose layers it is of."""
    if not (folder / ABOUT).exists():
        about: About = {"model": model, "layers": layers}
        write_text(folder / ABOUT, as_json(about))


def building(folder: Path) -> FileLock:
    """Return the lock of who adds to a prefix."""
    return FileLock(folder / BUILDING)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Make a prefix's folder if there is none, and let nobody clear it meanwhile; raise OSError where that fails."""
    descriptor = _shared(folder)
    (folder / BUILDING).touch()
    try:
        yield
    finally:
        with suppress(OSError):
            os.utime(descriptor)
        os.close(descriptor)


def removed(entry: Entry) -> bool:
    """Remove a prefix and return True, or leave it where a process uses it; raise OSError where that fails."""
    try:
        descriptor = os.open(entry.folder / USED, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        return True  # another did
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(entry.folder)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _shared(folder: Path) -> int:
    """Return the open lock file of a folder that nobody removed before it was locked."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / USED
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                os.utime(descriptor)
                return descriptor
        os.close(descriptor)


def _entry(folder: Path) -> Entry:
    try:
        about = read_json(folder / ABOUT, "what a cached prefix is of", About)
    except RecordError:  # its process was killed before it said so
        about = {"model": "?", "layers": 0}
    used = folder / USED
    return Entry(
        folder=folder,
        model=about["model"],
        layers=about["layers"],
        rows=sum(map(_rows, files_of(folder))),
        bytes=bytes_of(folder),
        last_used=datetime.fromtimestamp(_moment(used) or _moment(folder), UTC),
        in_use=_is_used(used),
    )


def _moment(path: Path) -> float:
    """Return when a file was last changed, 0 if it is gone."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _is_used(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _rows(path: Path) -> int:
    try:
        with safe_open(path, framework="numpy") as file:
            count: Any = file.get_slice(ROWS).get_shape()[0]
            return int(count)
    except (SafetensorError, OSError):
        return 0


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size if path.is_file() else 0
    return 0
