"""The folders of a run's tries: NAME, NAME.2, NAME.3, ...; no torch."""

import os
import re
from pathlib import Path

from molex_cli.errors import RecordError

MOST_CHARACTERS = 240  # of a folder's name; file systems take 255, and .2, .3, ... come after it


def slug_of(name: str) -> str:
    """Return the name of a run's folder; of a long one the start goes, not the variant and the seed at its end.

    It begins with no `-`, which a command would take for a flag, and no `.`, which hides a folder.
    """
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("-.")
    start, *end = slug.rsplit("-", 2)
    return "-".join([start[: MOST_CHARACTERS - sum(len(part) + 1 for part in end)], *end])


def free_folder(output_dir: str, slug: str) -> Path:
    """Return the folder after the last one."""
    return _numbered(output_dir, slug, max(by_number(output_dir, slug), default=0) + 1)


def by_number(output_dir: str, slug: str) -> dict[int, Path]:
    """Return the folders of a name by their number; one in which no run began may be gone from between them."""
    pattern = re.compile(re.escape(slug) + r"(?:\.(\d+))?")
    try:
        with os.scandir(output_dir) as entries:
            found = [(pattern.fullmatch(entry.name), entry) for entry in entries]
            return {int(match[1] or 1): Path(entry.path) for match, entry in found if match and entry.is_dir()}
    except OSError:  # not there yet, or no folder: whoever writes says so
        return {}


def _numbered(output_dir: str, slug: str, number: int) -> Path:
    return Path(output_dir) / (slug if number == 1 else f"{slug}.{number}")


def new_folder(output_dir: str, slug: str) -> Path:
    """Create and return a folder that was not there; a second run of the same name gets .2, .3, ..."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    for number in range(1, 100_000):
        folder = _numbered(output_dir, slug, number)
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise RecordError(f"output_dir must have room for a folder named {slug}, got 99,999 of them")
