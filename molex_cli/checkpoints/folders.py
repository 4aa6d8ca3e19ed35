"""A folder that is written beside its place and renamed; no torch."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from molex_cli.errors import RecordError


def require_new(path: Path) -> None:
    """Raise RecordError unless nothing stands in the way of a folder at this path."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise RecordError(f"--output must be a new or empty folder, got {path}, which is there; name another")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to write into; it gets its name when all is written, and goes if something fails."""
    require_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise RecordError(f"--output must be a folder that can be written, got {path} ({error.strerror})") from None
    try:
        yield beside
        beside.chmod(0o755)
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
