"""A run that lies on the hub, as a local folder: `hub:USER/NAME[@REVISION]`; no torch."""

import re
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from molex_cli.errors import CheckpointError, ConfigError, MolexError
from molex_cli.models.hub import cache, problems, repositories
from molex_cli.models.hub.problems import Source
from molex_cli.records import unwritable
from molex_cli.runtime.paths import default_cache_dir, expanded

PREFIX = "hub:"
WRITTEN = re.compile(r"hub:([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([^\s@]+))?", re.ASCII)
TAKEN = ("record.json", "adapter-*.safetensors", "predictions-*.jsonl")  # nothing that is run or unpickled
"""The only files of a repository that are fetched."""


@dataclass(frozen=True)
class RunSource(Source):
    """The repository of a run that a command opens."""

    @property
    def key(self) -> str:
        """Return what names it."""
        return "run=hub:USER/NAME"

    @property
    def revision_key(self) -> str:
        """Return what names its revision."""
        return "run=hub:USER/NAME@REVISION"

    @property
    def title(self) -> str:
        """Return what it is, in words."""
        return "a run"

    def error(self, line: str) -> MolexError:
        """Return the error of a line about it."""
        return CheckpointError(line)


def fetched_into() -> Path:
    """Return the folder of the runs that were fetched from the hub."""
    return default_cache_dir() / "hub"


def located(path: str | Path) -> Path:
    """Return the local folder of a run, `run=PATH` too; one on the hub is fetched, or found in the hub's cache.

    What is written into it later, such as evaluations, lies in our own cache beside links to its files.
    """
    path = str(path).removeprefix("run=")
    if not path.startswith(PREFIX):
        return expanded(path)
    found = WRITTEN.fullmatch(path)
    if found is None:
        raise ConfigError(f"a run on the hub must be named hub:USER/NAME or hub:USER/NAME@REVISION, got {path}")
    snapshot = _snapshot(found[1], found[2])
    if not any(snapshot.glob("adapter-*.safetensors")):
        raise CheckpointError(
            f"{path} must hold a run that molex push sent, got a repository without adapter-last.safetensors and "
            "adapter-best.safetensors"
        )
    return _own_folder(snapshot, found[1])


def _snapshot(repo: str, revision: str | None) -> Path:
    """Return the folder in the hub's cache that holds a run's files at a revision."""
    source = RunSource("model", repo, revision, f"run=hub:{repo}", "name a run of this machine")
    files = repositories.at(source).files
    if files is not None:
        return repositories.fetched(source, [name for name in files if _is_taken(name)])
    folder = repositories.snapshot(source)
    if not any(folder.glob("adapter-*.safetensors")):
        raise problems.away(source, cache.PART)
    return folder


def _is_taken(name: str) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in TAKEN)


def _own_folder(snapshot: Path, repo: str) -> Path:
    """Return a folder of our own, one for each commit, with links to the files of a snapshot."""
    folder = fetched_into() / f"{repo.replace('/', '--')}-{snapshot.name[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in (each for pattern in TAKEN for each in snapshot.glob(pattern)):
            _link(folder / file.name, file.resolve())
    except OSError as error:
        raise unwritable(str(folder), error, "a run of the hub must have a folder; MOLEX_CACHE names another") from None
    return folder


def _link(link: Path, file: Path) -> None:
    """Let a link point at a file, also where it is there and points at what is gone, or another process makes it."""
    if not link.exists():
        link.unlink(missing_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(file)
