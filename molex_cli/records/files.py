"""Files of JSON and JSON lines, and the one way to write: a temporary file, then renamed; no torch."""

import errno
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from molex_cli.errors import RecordError


@contextmanager
def renamed_when_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same folder; it replaces `path` at the end, and goes if something fails."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_renamed_when_whole(path: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it gets that name at the end, and goes if something fails.

    With `keep_existing`, a folder that another process made meanwhile stays.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if not (keep_existing and path.exists()):
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def file_part(name: str) -> str:
    """Return a name as a part of a file's: no slashes, and at most 150 bytes of the 255 that a file system takes."""
    return name.replace("/", "-").encode()[:150].decode(errors="ignore")


def write_text(path: Path, text: str) -> None:
    """Write a temporary file and rename it, so that no reader sees half of it."""
    with renamed_when_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_json(content: Any, indent: int | None = None) -> str:
    """Return content as JSON that every reader takes, wherever it is written: numbers that are not finite are null."""
    return json.dumps(_without_nan(content), indent=indent, ensure_ascii=False, allow_nan=False)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, at once."""
    write_text(path, "".join(as_json(dict(row)) + "\n" for row in rows))


def unwritable(output_dir: str, error: OSError) -> RecordError:
    """Return the error of an output folder that cannot be written to."""
    reason = error.strerror or type(error).__name__
    return RecordError(f"output_dir must be a folder that can be written to, got {output_dir} ({reason})")


def no_room(error: BaseException) -> RecordError | None:
    """Return the error of a disk that is full or a quota that is used up; None for any other."""
    found = re.search(r"\(os error (\d+)\)", str(error))  # as safetensors, which is not written in Python, names it
    number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
    if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    where = getattr(error, "filename", None) or "the disk"
    return RecordError(
        f"{where} must have room for what is written, got: {os.strerror(number)}; make room and repeat the command"
    )


@contextmanager
def told_without_room() -> Iterator[None]:
    """Raise RecordError where a disk is full: one line, not a traceback."""
    try:
        yield
    except Exception as error:
        if told := no_room(error):
            raise told from error
        raise


def _without_nan(value: Any) -> Any:
    """Return plain data with NaN and infinities as null, which JSON can hold."""
    if isinstance(value, float) and (not math.isfinite(value)):
        return None
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
