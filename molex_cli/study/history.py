"""What a study's file said before its first run, and whether it has changed since."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from molex_cli.compare.loading import Run
from molex_cli.errors import ConfigError, RecordError
from molex_cli.records import as_json, unwritable, write_text
from molex_cli.records.folders import slug_of
from molex_cli.records.partial import remove_stale
from molex_cli.records.parts import StudyVersion
from molex_cli.records.reading import read_json
from molex_cli.records.record import is_moment
from molex_cli.runtime.paths import place_of

FILE = "versions.json"
SHOWN = 12  # letters of a digest


@dataclass(frozen=True)
class History:
    """The versions of a study's file under which runs were started, the oldest first."""

    versions: list[StudyVersion]

    def told(self, runs: Sequence[Run]) -> Iterator[str]:
        """Yield whether the study stands as it did before its first run, and whether all runs came after it."""
        first, *later = self.versions
        digest = f"sha256 {first['digest'][:SHOWN]}"
        older = sum(run.started < datetime.fromisoformat(first["since"]) for run in runs)
        if older:
            yield (
                f"{older} of {len(runs)} runs had started before the study was first seen, with the digest {digest} on "
                f"{first['since']}: whether it was planned before their results were known, no record tells"
            )
        if later:
            changes = ", ".join(f"{each['digest'][:SHOWN]} on {each['since']}" for each in later)
            yield (
                f"the study was changed after runs had started: {digest} on {first['since']}, then {changes}; "
                "what was planned beforehand is the first version alone, and error rates hold for no other"
            )
        if not older and not later:
            yield f"the study has the digest {digest}, and has had it since before its first run ({first['since']})"


@contextmanager
def folder_of(output_dir: str, path: Path) -> Iterator[Path]:
    """Yield the folder of a study, which no other process has meanwhile."""
    folder = Path(output_dir) / "studies" / slug_of(path.stem)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder)
        lock.acquire()
    except Timeout:
        raise ConfigError(f"a study must be one process's, got another that works on {folder}") from None
    except OSError as error:
        raise unwritable(output_dir, error) from None
    with lock:
        yield folder


def begun(folder: Path, file: Path, digest: str) -> None:
    """Write down a version of a study before a run starts under it."""
    versions = seen(folder, file).versions
    if not versions or versions[-1]["digest"] != digest:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        versions.append({"digest": digest, "since": now, "file": str(file.resolve())})
        write_text(folder / FILE, as_json(versions, indent=2) + "\n")


def seen(folder: Path, file: Path) -> History:
    """Return the versions of a study; raise ConfigError if its folder is that of another file."""
    path, kind = folder / FILE, list[StudyVersion]
    versions: list[StudyVersion] = read_json(path, "the versions of a study", kind) if path.exists() else []
    if not all(is_moment(version["since"]) for version in versions):
        raise RecordError(f"{path} is not the versions of a study, or is damaged: since is no moment; move it away")
    for other in {Path(version["file"]) for version in versions}:
        if other.exists() and place_of(other) != place_of(file):
            raise ConfigError(f"{file} must have a name of its own, got {folder}, which is that of {other}; rename it")
    return History(versions)
