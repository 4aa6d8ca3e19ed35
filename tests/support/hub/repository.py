"""A repository of the hub: files by commit, and the branches and tags that name commits."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LARGE = (".safetensors", ".parquet", ".bin", ".gguf")  # what the hub keeps outside git


@dataclass
class Repository:
    """A model or a data set; `kind` is models or datasets."""

    kind: str
    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    """Everyone sees that it is there, those with access alone get its files."""
    private: bool = False
    """For those without access it does not exist."""
    messages: list[str] = field(default_factory=list)
    """Of the commits that were sent."""

    def commit(self, files: Mapping[str, bytes] | Path, branch: str = "main", *, without: Collection[str] = ()) -> str:
        """Add a commit with the files of a mapping or a folder beside those of before; return its hash."""
        before = {n: c for n, c in self.commits.get(self.refs.get(branch, ""), {}).items() if n not in without}
        now = {**before, **(files if isinstance(files, Mapping) else of_folder(files))}
        about = f"{self.kind} {self.name} {len(self.commits)} " + " ".join(f"{n} {git_hash(c)}" for n, c in now.items())
        sha = hashlib.sha1(about.encode()).hexdigest()
        self.commits[sha], self.refs[branch] = now, sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """Return the commit that a branch, a tag or a hash names."""
        return revision if revision in self.commits else self.refs.get(revision)


def of_folder(folder: Path) -> dict[str, bytes]:
    """Return the content of all files of a folder by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def is_large(name: str) -> bool:
    """Return whether a file is kept outside git, and so is served from another host."""
    return name.endswith(LARGE)


def git_hash(content: bytes) -> str:
    """Return the hash that git has for a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def large_hash(content: bytes) -> str:
    """Return the hash that the hub has for a large file."""
    return hashlib.sha256(content).hexdigest()
