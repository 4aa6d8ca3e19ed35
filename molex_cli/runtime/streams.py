"""Standard output and error that no text and no reader can break."""

import codecs
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TextIO

ESCAPED = "molex-escaped"  # the name of our way to write what an encoding lacks
# What moves a cursor, hides or turns text around, or is no character: all controls but the newline, invisible format
# characters but the two joiners that scripts need, and lone surrogates.
UNSEEN = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f\\ud800-\\udfff]"
)


def visible(text: str) -> str:
    """Return text in which nothing acts: what a reader would not see is escaped as in JSON, so that JSON stays JSON."""
    return UNSEEN.sub(lambda found: _units(found[0]), text)


def say(*lines: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Print lines of any origin, to standard output if no file is given; JSON too, but nothing that has styles."""
    print(*(visible(str(line)) for line in lines), sep="\n", file=file, flush=flush)


@contextmanager
def safe_streams(*, outlive_readers: bool = False) -> Iterator[None]:
    """Let standard output and error take every text, and drop errors that nobody reads.

    A reader who leaves standard output ends a command with BrokenPipeError, unless it is to outlive its readers.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _safe(sys.stdout, outlive_readers), _safe(sys.stderr, True)
    try:
        yield
    finally:
        ours, (sys.stdout, sys.stderr) = (sys.stdout, sys.stderr), before
        for stream in filter(None, ours):  # None is one that was closed before we began
            stream.flush()  # here, where an error can still be handled


@cache
def say_once(line: str) -> None:
    """Print a note, unless it was printed before."""
    say(f"note: {line}", file=sys.stderr)


def without_news_of_libraries() -> None:
    """Leave out, here and in processes to come, what libraries tell their callers about versions to come.

    Whoever sets PYTHONWARNINGS or -W for them sees them.
    """
    if sys.warnoptions or "PYTHONWARNINGS" in os.environ:
        return
    warnings.simplefilter("ignore", FutureWarning)
    os.environ["PYTHONWARNINGS"] = "ignore::FutureWarning"


def _safe(stream: Any, drops: bool) -> Any:
    """Return another stream on the same file; one that has no file, as those of a test, as it is."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):
        return stream
    stream.flush()
    raw = (Dropping if drops else io.FileIO)(descriptor, "w", closefd=False)
    errors = stream.errors if codecs.lookup(stream.encoding).name.startswith("utf") else ESCAPED
    is_line_buffered = stream.line_buffering or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, errors, line_buffering=is_line_buffered)


class Dropping(io.FileIO):
    """A file that drops what cannot be written: its reader is gone, or its disk full."""

    def write(self, content: Any) -> int:
        """Write bytes, or drop them."""
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Return what an encoding lacks as JSON escapes it, so that what is JSON stays so."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _units(error.object[error.start : error.end]), error.end


def _units(text: str) -> str:
    """Return text in the escapes of JSON."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


codecs.register_error(ESCAPED, _escaped)
