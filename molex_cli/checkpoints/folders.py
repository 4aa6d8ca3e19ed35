"""A folder that is written under a temporary name and then renamed; no torch."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from molex_cli.errors import RecordError
from molex_cli.records import no_room
from molex_cli.records.partial import folder_renamed_when_whole


def require_new(path: Path, flag: str = "--output") -> None:
    """Raise RecordError unless nothing stands in the way of a folder at this path."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise RecordError(f"{flag} must be a new or empty folder, got {path}, which is there; name another")


@contextmanager
def new_folder(path: Path, flag: str = "--output") -> Iterator[Path]:
    """Yield a folder to write into; it gets its name when all is written, and goes if something fails."""
    require_new(path, flag)
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(folder_renamed_when_whole(path))
        except OSError as error:
            raise no_room(error) or RecordError(
                f"{flag} must be a folder that can be written, got {path} ({error.strerror})"
            ) from None
        yield temporary
