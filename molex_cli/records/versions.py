"""What a record keeps of the process that made it: command, versions, commit, host, errors."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from molex_cli import __version__
from molex_cli.records.parts import Environment, Failure, Git

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "safetensors",
    "hydra-core",
    "peft",
)

_words: ContextVar[Sequence[str] | None] = ContextVar("words of a command that was not typed", default=None)


def command() -> list[str]:
    """Return what the process was started with; where Python asked for a run, what would have been typed."""
    return list(sys.argv[1:] if (words := _words.get()) is None else words)


@contextmanager
def as_if_typed(words: Sequence[str]) -> Iterator[None]:
    """Let `command` return these words: the arguments of a notebook's process say nothing of its runs."""
    before = _words.set(words)
    try:
        yield
    finally:
        _words.reset(before)


def environment() -> Environment:
    """Return the versions and the commit that this process runs, and where: no secrets, no paths."""
    versions = {"molex": __version__}  # the name in all records, whatever the distribution is called
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "packages": versions,
        "git": _git_state(),
        "host": platform.node(),
        "pid": os.getpid(),
    }


def _git_state() -> Git | None:
    """Return commit and changes of the repository that holds this code; none of one that merely lies around it."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return {
            "commit": _git("rev-parse", "HEAD"),
            "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", timeout=10)),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str, timeout: float = 5) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    here = Path(__file__).resolve().parent
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=timeout, check=True)
    return done.stdout.strip()


def error_of(error: BaseException) -> Failure:
    """Return what a record keeps of an error."""
    trace = "".join(traceback.format_exception(error))
    return {"type": type(error).__name__, "message": str(error), "traceback": trace}
