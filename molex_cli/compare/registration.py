"""When each claim of a file was written: as its commit says where there is one, else as the file's time says."""

import hashlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SECONDS = 10.0  # for git
LINE = re.compile(r"^(?P<commit>[0-9a-f]{40,64}) \d+ (?P<line>\d+)")
TIME = "committer-time "


@dataclass(frozen=True)
class Written:
    """When the lines of a claim were last changed."""

    when: datetime
    commit: str | None
    """That changed them last; None where they are not committed."""


def written(path: Path, lines: Sequence[range]) -> list[Written]:
    """Return for each claim, by its lines in the file from 1, when it was last changed."""
    changed = Written(datetime.fromtimestamp(path.stat().st_mtime, UTC), None)
    commits = dict(_blamed(path))
    return [max((commits.get(line, changed) for line in each), key=lambda found: found.when) for each in lines]


def told(path: Path, claims: Sequence[Written]) -> str:
    """Return what the order of claims and runs rests on, with a digest of the file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    commits = sorted({each.commit[:10] for each in claims if each.commit})
    by = f"commit {', '.join(commits)}" if commits else "the time of the file alone"
    if commits and not all(each.commit for each in claims):
        by += ", and of claims that are not committed by the file's time"
    return (
        f"{path.name} has the digest sha256 {digest}; that a claim came before its runs is judged by {by}, "
        "which anybody can set: no flag is no proof, a published version of the file is"
    )


def _blamed(path: Path) -> Iterator[tuple[int, Written]]:
    """Yield the commit of each committed line; nothing outside a repository."""
    command = ["git", "--no-optional-locks", "blame", "--porcelain", "--", path.name]
    try:
        done = subprocess.run(
            command, cwd=path.resolve().parent, capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return
    times: dict[str, datetime] = {}  # git tells each commit's once
    at: list[tuple[int, str]] = []
    for text in done.stdout.splitlines():
        if text.startswith("\t"):
            continue
        if found := LINE.match(text):
            at.append((int(found["line"]), found["commit"]))
        elif text.startswith(TIME):
            times[at[-1][1]] = datetime.fromtimestamp(int(text.removeprefix(TIME)), UTC)
    yield from ((line, Written(times[commit], commit)) for line, commit in at if set(commit) != {"0"})
