"""Which runs `molex eval` scores: those of folders, of patterns and of several paths."""

import glob
from collections.abc import Sequence
from pathlib import Path

from molex_cli.errors import ConfigError
from molex_cli.records import index
from molex_cli.records.sweeps import is_sweep, runs_of
from molex_cli.runtime.paths import distinct, expanded

SCORED = ("finished", "imported")  # what has an adapter of its last step


def found(paths: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return every run of some paths once, and a line on each that is left out.

    A path is a run, an adapter file, a folder of runs, that of a sweep or a pattern; raise ConfigError for a pattern of
    nothing.
    """
    runs, left_out = list[Path](), list[str]()
    for path in (each for text in paths for match in _matching(text) for each in _runs_if_sweep(match)):
        records, problems = index.read(path) if _holds_runs(path) else ({}, {})
        runs += [folder for folder, record in records.items() if record.status in SCORED]
        left_out += [f"{folder} is {each.status}" for folder, each in records.items() if each.status not in SCORED]
        left_out += list(problems.values())
        if not records and not problems:
            runs.append(path)
    return distinct(runs), list(dict.fromkeys(left_out))


def _matching(text: str) -> list[Path]:
    """Return a path, or those of a pattern that are or hold runs: `outputs/*` finds an index and sweeps, too."""
    path = expanded(text)
    if path.exists() or not glob.has_magic(text):
        return [path]
    matches = [Path(each) for each in sorted(glob.glob(str(path)))]
    if not (found := [match for match in matches if not _is_other(match)]):
        raise ConfigError(f"run must be a path or a pattern of paths, got {text}, which no run matches")
    return found


def _runs_if_sweep(path: Path) -> list[Path]:
    return runs_of(path) if is_sweep(path) else [path]


def _is_other(path: Path) -> bool:
    """Return whether what a pattern found is neither a run nor a folder of some; a folder that is empty is a run's."""
    if path.is_file():
        return path.suffix != ".safetensors"
    return not _is_run(path) and not is_sweep(path) and any(map(is_sweep, path.iterdir()))


def _holds_runs(path: Path) -> bool:
    """Return whether a path is a folder of runs, and not a run."""
    return path.is_dir() and not _is_run(path)


def _is_run(path: Path) -> bool:
    return (path / "record.json").exists() or any(path.glob("adapter-*.safetensors"))
