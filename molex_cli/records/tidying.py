"""What of a run's folder is not to stay: a state that is no longer needed, and what a killed process left; no torch."""

import re
from collections.abc import Iterator
from pathlib import Path

from molex_cli.records.partial import ENDING
from molex_cli.records.record import Record
from molex_cli.records.run_folder import adapter_name

STATE = "progress.safetensors"  # what a run resumes from
UNFINISHED = re.compile(
    r"\..+\.\w{8}" + re.escape(ENDING) + r"|\..+\.(json|jsonl|safetensors)\.\w{8}"  # as they were named before
    r"|\.processes\.json|\.error-\d+"  # of several processes that did a run together
)


def left_over(folder: Path, record: Record | None) -> list[Path]:
    """Return what goes from a run's folder when nobody works in it."""
    found = [path for path in folder.iterdir() if UNFINISHED.fullmatch(path.name)]
    return found if record is None else [*found, *_not_kept(folder, record)]


def tidy(folder: Path, record: Record | None) -> None:
    """Remove it; the caller holds the folder's lock."""
    for path in left_over(folder, record):
        path.unlink(missing_ok=True)


def drop_not_kept(folder: Path, record: Record) -> None:
    """Remove what a run does not keep when it ends; what is unfinished may be of the processes that share it."""
    for path in _not_kept(folder, record):
        path.unlink(missing_ok=True)


def _not_kept(folder: Path, record: Record) -> list[Path]:
    """Return what a finished run no longer needs: its state, and the adapters that `keep` leaves out."""
    if record.status != "finished":
        return []
    return [path for path in _unneeded(folder, str(record.settings.get("keep"))) if path.exists()]


def _unneeded(folder: Path, keep: str) -> Iterator[Path]:
    yield folder / STATE
    has_best = (folder / "adapter-best.safetensors").exists()  # after stages the last is the best
    for which in ("last", "best"):
        if keep in {"last", "best", "none"} - {which} and (has_best or keep != "best"):
            yield folder / adapter_name(which)
