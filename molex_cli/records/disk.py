"""What a disk says that is full, read-only or broken, or has no room for a name, as one line; no torch."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from molex_cli.errors import DiskError, MolexError, RecordError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
TOO_LONG = (errno.ENAMETOOLONG,)
BROKEN = (errno.EIO, errno.ESTALE, errno.ENXIO)


def unwritable(path: str, error: OSError, what: str = "output_dir must be a folder") -> RecordError:
    """Return the error of a place that cannot be written to, which is an output folder unless it says `what`."""
    reason = error.strerror or type(error).__name__
    told = RecordError(f"{what} that can be written to, got {path} ({reason})")
    return no_room(error) or told


def no_room(error: BaseException) -> DiskError | None:
    """Return the error of a disk that is full or a quota that is used up; None for any other."""
    return disk_error(error) if _number(error) in FULL else None


def disk_error(error: BaseException) -> DiskError | None:
    """Return the error of a disk that is full, read-only or broken, also behind another package's; else None."""
    number = _number(error)
    where = getattr(error, "filename", None) or "the disk"
    if number in FULL:
        must, way_out = "have room for what is written", "make room and repeat the command"
    elif number in REFUSED and (where != "the disk" or not isinstance(error, OSError)):  # a process may be refused too
        must, way_out = "let this user read and write it", "change that, or name another place"
    elif number in TOO_LONG:
        must, way_out = "have names of at most 255 bytes", "choose a shorter one"
    elif number in BROKEN:
        must, way_out = "be on a disk that works", "mend that and repeat the command"
    else:
        return None if error.__cause__ is None else disk_error(error.__cause__)
    return DiskError(f"{where} must {must}, got: {os.strerror(number)}; {way_out}")


@contextmanager
def disk_errors_told() -> Iterator[None]:
    """Raise DiskError for what a disk refuses: one line, not a traceback."""
    try:
        yield
    except MolexError:
        raise  # it says more than the disk does
    except Exception as error:
        if told := disk_error(error):
            raise told from error
        raise


def _number(error: BaseException) -> int:
    """Return the system's number of an error, 0 if it has none."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))  # as safetensors, which is not written in Python, names it
    return int(found[1]) if found else 0
