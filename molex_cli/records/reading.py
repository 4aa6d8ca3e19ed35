"""The one place that opens a file which a run left: content of a declared type, or one line on what it is instead.

msgspec reads JSON and checks its types in one go, ten times as fast as `json`; what a type does not name is kept. It
refuses what JSON has not (NaN) and numbers that no float holds, so neither needs a check of its own. No torch.
"""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from molex_cli.errors import RecordError
from molex_cli.records.predictions import PREDICTIONS

LARGEST = 2**31  # bytes; a record has thousands, predictions have millions
DEEPEST = 100  # levels; what walks through content later does so by recursion
LONGEST_REASON = 200  # characters


class Misfit(ValueError):
    """Content of another type than the declared one; says where."""


def content_of(path: Path) -> bytes:
    """Return what a file holds; raise RecordError for a pipe, which would never end, and all else that is no file."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise RecordError(
                f"{path} must be a file, got {'a folder' if stat.S_ISDIR(about.st_mode) else 'a pipe or a device'}"
            )
        if about.st_size > LARGEST:
            raise RecordError(f"{path} must be a file of at most {LARGEST:,} bytes, got {about.st_size:,}")
        return path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise RecordError(f"{path} does not exist") from None
        raise RecordError(f"{path} must be a file that can be read, got: {error.strerror}") from None


def parsed(raw: bytes, kind: Any) -> Any:
    """Return JSON as plain data, keys that `kind` does not name included; raise Misfit unless it fits `kind`."""
    try:
        content = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Misfit(_reason(error)) from None
    if sum(map(raw.count, (b"[", b"{"))) > DEEPEST:  # else nothing can be nested deeper
        require_shallow(content)
    require_fitting(content, kind)
    return content


def require_fitting(content: Any, kind: Any) -> None:
    """Raise Misfit unless plain data fit a type."""
    try:
        msgspec.convert(content, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Misfit(_reason(error)) from None


def require_shallow(content: Any) -> None:
    """Raise Misfit for content that is nested too deep to walk through."""
    level = [content]
    for _ in range(DEEPEST):
        nested = [each for each in level if isinstance(each, dict | list)]
        if not nested:
            return
        level = [item for each in nested for item in (each.values() if isinstance(each, dict) else each)]
    raise Misfit(f"content must be nested at most {DEEPEST} levels deep")


def read_json(path: Path, what: str, kind: Any) -> Any:
    """Return a file of JSON, checked; raise RecordError where it is another thing than `what`."""
    try:
        return parsed(content_of(path), kind)
    except Misfit as error:
        raise RecordError(f"{path} is not {what}, or is damaged: {error}") from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the predictions of a run; raise RecordError unless all are whole, and of one kind."""
    found = []
    for number, line in enumerate(lines_of(path), start=1):
        try:
            found.append(parsed(line, dict[str, Any]))
        except Misfit as error:
            raise RecordError(f"{path} must hold predictions, got a broken line {number}: {error}") from None
    problems = []
    for kind in PREDICTIONS:
        try:
            for row in found:
                require_fitting(row, kind)
            return found
        except Misfit as error:
            problems.append(str(error))
    raise RecordError(f"{path} must hold predictions of one kind, got others: {problems[0]}")


def lines_of(path: Path) -> list[bytes]:
    """Return the lines of a file of JSON lines; texts in it may hold other characters that end lines."""
    return [line for line in content_of(path).split(b"\n") if line]


def fitting(lines: Iterator[bytes] | list[bytes], kind: Any) -> Iterator[tuple[bytes, Any]]:
    """Yield each line that fits, with its content: the last one of a process that was killed may be cut off."""
    for line in lines:
        try:
            yield line, parsed(line, kind)
        except Misfit:
            continue


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON]
