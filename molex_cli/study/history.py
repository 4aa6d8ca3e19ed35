"""What a study's file said before its first run, and whether it has changed since."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from molex_cli.errors import ConfigError
from molex_cli.records import as_json, unwritable, write_text
from molex_cli.records.folders import slug_of
from molex_cli.records.partial import remove_stale
from molex_cli.records.parts import StudyVersion
from molex_cli.records.reading import read_json

FILE = "versions.json"
SHOWN = 12  # letters of a digest


@dataclass(frozen=True)
class History:
    """The versions of a study's file under which runs were started, the oldest first."""

    versions: list[StudyVersion]

    def told(self) -> str:
        """Return whether the file stands as it did before the first run."""
        first, *later = self.versions
        digest = f"sha256 {first['digest'][:SHOWN]}"
        if not later:
            return f"the file has the digest {digest}, and has had it since before the first run ({first['since']})"
        changes = ", ".join(f"{each['digest'][:SHOWN]} on {each['since']}" for each in later)
        return (
            f"the file was changed after runs had started: {digest} on {first['since']}, then {changes}; "
            "what was planned beforehand is the first version alone, and error rates hold for no other"
        )


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


def begun(folder: Path, digest: str) -> History:
    """Return the versions of a study's file; this one is written down before a run starts under it."""
    path = folder / FILE
    kind = list[StudyVersion]
    versions: list[StudyVersion] = read_json(path, "the versions of a study", kind) if path.exists() else []
    if not versions or versions[-1]["digest"] != digest:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        versions.append({"digest": digest, "since": now})
        write_text(path, as_json(versions, indent=2) + "\n")
    return History(versions)
