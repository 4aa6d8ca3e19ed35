"""Paths as people write them, and a home for those who have none."""

import errno
import getpass
import os
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from molex_cli.runtime.streams import say_once


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder in place of `~`, which no shell replaces behind a `=` or in a YAML file."""
    return _with_home(Path(path)) if str(path).startswith("~") else Path(path)


def require_file(path: Path) -> Path:
    """Return the path of a file; raise OSError for a pipe, on which a reader waits for ever, and for a folder."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "a folder is there" if path.is_dir() else "a pipe or a device is there", str(path))
    return path


def place_of(path: Path) -> tuple[int, int]:
    """Return what is the same for all names of a file or folder: links, `a/../a`, relative and absolute ones."""
    about = path.stat()
    return about.st_dev, about.st_ino


def distinct(paths: Iterable[Path]) -> list[Path]:
    """Return the paths without other names of one that came before."""
    found: dict[object, Path] = {}
    for path in paths:
        found.setdefault(place_of(path) if path.exists() else path, path)
    return list(found.values())


def default_cache_dir() -> Path:
    """Return the folder for what can be computed again: MOLEX_CACHE, or ~/.cache/molex if it is writable."""
    if given := os.environ.get("MOLEX_CACHE"):
        return expanded(given)
    folder = _with_home(Path("~/.cache/molex"))
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    if os.access(nearest, os.W_OK):
        return folder
    say_once(f"{folder} must be writable for the cache, got no permission; {_own_temporary()} is used instead")
    return _own_temporary() / "cache"


def know_user() -> None:
    """Give a user whom no password file knows a home and a name: the libraries ask for both."""
    _with_home(Path("~"))
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user{os.getuid()}"


def _with_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        os.environ["HOME"] = str(_own_temporary())
        say_once(f"HOME must be the home folder, got none; {os.environ['HOME']} is taken, set HOME or MOLEX_CACHE")
        return path.expanduser()


@cache
def _own_temporary() -> Path:
    """Return a folder of this user's alone, the same next time unless another user has taken its name."""
    folder = Path(tempfile.gettempdir()) / f"molex-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder if folder.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix="molex-"))
