"""When each claim of a file was written: as its commits say where there are some, else as the file's time says."""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from molex_cli.compare.hypotheses import Claim, parse_claims
from molex_cli.errors import ConfigError

SECONDS = 10.0  # for each call of git
MOST_VERSIONS = 1_000
SHOWN = 6  # claims that are gone
COMMIT = re.compile(r"\s*(?P<commit>[0-9a-f]{40,64}) (?P<time>\d+)")
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # of another repository, as in a hook


@dataclass(frozen=True)
class Written:
    """Since when a claim has stood in its file as it does now."""

    when: datetime
    commit: str | None
    """That wrote it; None where it is not committed."""


@dataclass(frozen=True)
class Version:
    """A committed version of a file of claims."""

    written: Written
    claims: Sequence[Claim]
    """Empty where it was deleted or no file of claims."""


@dataclass(frozen=True)
class Registration:
    """What a file and its history tell of when its claims were written."""

    path: Path
    written: Sequence[Written]
    """Of each claim."""
    gone: Sequence[str]
    """Claims that earlier versions had and the file has no more."""
    is_shallow: bool
    """Whether the clone has only a part of the history."""

    def told(self) -> str:
        """Return what the order of claims and runs rests on, with a digest of the file."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]
        commits = sorted({each.commit[:10] for each in self.written if each.commit})
        by = f"commit {', '.join(commits)}" if commits else "the time of the file alone"
        if commits and not all(each.commit for each in self.written):
            by += ", and of claims that are not committed by the file's time"
        by += " (a shallow clone, which lacks what was before)" if self.is_shallow else ""
        more = f", and {len(self.gone) - SHOWN} more" if len(self.gone) > SHOWN else ""
        gone = f"; earlier versions had claims that it lacks: {', '.join(self.gone[:SHOWN])}{more}" if self.gone else ""
        return (
            f"{self.path.name} has the digest sha256 {digest}; that a claim came before its runs is judged by {by}, "
            f"which anybody can set: no flag is no proof, a published version of the file is{gone}"
        )


def registered(path: Path, claims: Sequence[Claim]) -> Registration:
    """Return since when each claim of a file has been in every version of it, as it is now."""
    path = path.resolve()
    on_disk = Written(datetime.fromtimestamp(path.stat().st_mtime, UTC), None)
    versions = list(_versions(path))
    written = []
    for claim in claims:
        since = list(takewhile(lambda version, claim=claim: claim in version.claims, versions))  # type: ignore[misc]
        written.append(since[-1].written if since else on_disk)
    sentences = {str(claim) for claim in claims}
    earlier = dict.fromkeys(str(claim) for version in versions for claim in version.claims)
    is_shallow = bool(versions) and _git(path, "rev-parse", "--is-shallow-repository").strip() == b"true"
    return Registration(path, written, [each for each in earlier if each not in sentences], is_shallow)


def _versions(path: Path) -> Iterator[Version]:
    """Yield the committed versions of a file, the newest first; nothing outside a repository."""
    log = _git(
        path, "log", f"-{MOST_VERSIONS}", "-z", "--follow", "--name-only", "--format=%H %ct", "--", path.name
    ).decode(errors="surrogateescape")
    commits: list[Written] = []
    named: list[tuple[Written, str]] = []
    for part in log.split("\0"):
        if found := COMMIT.fullmatch(part):
            commits.append(Written(datetime.fromtimestamp(int(found["time"]), UTC), found["commit"]))
        elif name := part.removeprefix("\n"):
            named.append((commits[-1], name))
    given = "".join(f"{written.commit}:{name}\n" for written, name in named)
    out = _git(path, "cat-file", "--batch", given=given) if named else b""
    for written, _ in named:
        head, _, out = out.partition(b"\n")
        size = int(head.split()[-1]) if head and not head.endswith(b" missing") else 0  # missing where it was deleted
        content, out = out[:size], out[size + 1 :] if size else out
        yield Version(written, _parsed(content, path))


def _parsed(content: bytes, path: Path) -> list[Claim]:
    try:
        return parse_claims(content, path)
    except ConfigError:
        return []


def _git(path: Path, *arguments: str, given: str = "") -> bytes:
    """Return what git tells of the repository that a file lies in; nothing where there is none."""
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=path.parent,
            env=environment,
            input=given.encode(errors="surrogateescape"),
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return b""
    return done.stdout
