"""Files and folders under a temporary name until they are whole, and what a killed process leaves of them; no torch."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

ENDING = ".partial"
NAME_BYTES = 150  # of the 255 that a file system takes


@contextmanager
def renamed_when_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same folder; it replaces `path` at the end, and goes if something fails."""
    with _held(path, _new_file) as temporary:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)


@contextmanager
def folder_renamed_when_whole(path: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it gets that name at the end, and goes if something fails.

    With `keep_existing`, a folder that another process made meanwhile stays.
    """
    remove_stale(path.parent, path.name)
    with _held(path, _new_folder) as temporary:
        yield temporary
        temporary.chmod(0o755)
        if not (keep_existing and path.exists()):
            os.replace(temporary, path)


def file_part(name: str) -> str:
    """Return a name as a part of a file's: no slashes, and short enough."""
    return name.replace("/", "-").encode()[:NAME_BYTES].decode(errors="ignore")


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left unfinished in a folder, of one file or folder alone if it is named.

    What a living process still writes is locked by it, here or on another machine, and stays.
    """
    start = "*" if name is None else escape(file_part(name))
    for path in folder.glob(f".{start}.????????{ENDING}"):
        with suppress(OSError):  # also where the lock is another's: BlockingIOError
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


@contextmanager
def _held(path: Path, create: Callable[[Path, str], tuple[Path, int]]) -> Iterator[Path]:
    """Yield a new temporary path that is locked, so that nobody takes it for stale; what is left of it goes."""
    temporary, descriptor = _created(path, create)
    try:
        yield temporary
    finally:
        os.close(descriptor)
        _remove(temporary)


def _created(path: Path, create: Callable[[Path, str], tuple[Path, int]]) -> tuple[Path, int]:
    while True:
        temporary, descriptor = create(path.parent, f".{file_part(path.name)}.")
        with suppress(OSError):  # a file system without locks: then nobody takes it for stale either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, descriptor
        os.close(descriptor)  # it was taken for stale before it was locked


def _new_file(folder: Path, start: str) -> tuple[Path, int]:
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=start, suffix=ENDING)
    return Path(name), descriptor


def _new_folder(folder: Path, start: str) -> tuple[Path, int]:
    path = Path(tempfile.mkdtemp(dir=folder, prefix=start, suffix=ENDING))
    return path, os.open(path, os.O_RDONLY)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
