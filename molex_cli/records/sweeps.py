"""The folder that a sweep leaves, as far as others read it: which runs were its jobs; no torch."""

from contextlib import suppress
from pathlib import Path

from molex_cli.errors import RecordError
from molex_cli.records.parts import JobFolder
from molex_cli.records.reading import read_json


def is_sweep(folder: Path) -> bool:
    """Return whether a sweep made this folder."""
    return (folder / "sweep.json").is_file() and (folder / "jobs").is_dir()


def runs_of(sweep: Path) -> list[Path]:
    """Return the folders of a sweep's runs, in the order of its jobs; a job that never began has none.

    They lie beside `sweeps/`, wherever the sweep was started from and its output was moved to.
    """
    is_plain = len(sweep.parts) > 2 and ".." not in sweep.parts
    home = (sweep if is_plain else sweep.resolve()).parent.parent
    found = []
    for status in sorted((sweep / "jobs").glob("*.status.json")):
        with suppress(RecordError):  # it is being written, or damaged: its run is not known
            folder = read_json(status, "the status of a job", JobFolder).get("folder")
            found += [home / Path(folder).name] if folder else []
    return found
