"""A run that lies on the hub, as a local folder: `hub:USER/NAME[@REVISION]`; no torch."""

import re
from contextlib import suppress
from pathlib import Path

from molex_cli.checkpoints.hub import trouble
from molex_cli.checkpoints.hub.client import quiet
from molex_cli.errors import CheckpointError, ConfigError
from molex_cli.models.hub import repositories
from molex_cli.records import unwritable
from molex_cli.runtime.paths import default_cache_dir, expanded

PREFIX = "hub:"
WRITTEN = re.compile(r"hub:([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([^\s@]+))?", re.ASCII)
TAKEN = ("record.json", "adapter-*.safetensors", "predictions-*.jsonl")  # nothing that is run or unpickled
"""The only files of a repository that are fetched."""


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
    source = trouble.RunSource("model", repo, revision, f"run=hub:{repo}", "name a run of this machine")
    found = repositories.at(source)
    from huggingface_hub import snapshot_download

    is_away, taken = found.files is None, list(TAKEN)
    with trouble.of_reading(source), quiet():
        return Path(
            snapshot_download(
                repo, revision=found.commit, local_files_only=is_away, allow_patterns=taken, dry_run=False
            )
        )


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
