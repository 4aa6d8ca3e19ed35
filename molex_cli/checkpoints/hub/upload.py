"""A folder to a repository of the hub, in one commit; no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.checkpoints.hub import trouble
from molex_cli.checkpoints.hub.client import quiet
from molex_cli.errors import ConfigError
from molex_cli.models.hub import connection

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

OURS = ("README.md", "record.json", "adapter-*.safetensors", "predictions-*.jsonl", "adapter_model.safetensors",
        "adapter_config.json")  # fmt: skip
"""What an earlier push may have left; those that this one does not write go."""
OF_THE_HUB = (".gitattributes",)


@dataclass(frozen=True)
class Sent:
    """What became of a push."""

    url: str
    commit: str
    changed: bool
    """Whether there was anything that the repository did not have."""


def send(folder: Path, repo: str, token: str, *, private: bool, revision: str | None, message: str) -> Sent:
    """Let a branch of a repository hold what is in a folder; both are made where they are not there."""
    from huggingface_hub import HfApi

    connection.prepare_clients()
    api = HfApi(token=token)
    with trouble.of_writing(repo, token), quiet():
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        before = api.model_info(repo, revision=revision)
        _require_ours(repo, [each.rfilename for each in before.siblings or ()])
        if private and not before.private:
            raise ConfigError(f"--private must be given for a private or new repository, got {repo}, which is public")
        commit = _commit(api, folder, before, revision, message)
    return Sent(str(url), commit, commit != before.sha)


def _require_ours(repo: str, there: Sequence[str]) -> None:
    """Raise ConfigError for a repository with files of something else: its card would be lost."""
    others = [each for each in there if each not in OF_THE_HUB]
    if others and "record.json" not in others:
        raise ConfigError(
            f"--repo must be a new repository or one that molex push wrote, got {repo} with {', '.join(others[:3])}; "
            "name another"
        )


def _commit(api: "HfApi", folder: Path, before: "ModelInfo", revision: str | None, message: str) -> str:
    """Add and replace what is in the folder, delete what an earlier push left besides; return the commit.

    What the branch held before is what was looked at: if somebody changes it meanwhile, the hub refuses the commit.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = sorted(path.name for path in folder.iterdir())
    operations: list[Any] = [CommitOperationAdd(name, folder / name) for name in files]
    there = [each.rfilename for each in before.siblings or ()]
    left = [name for name in there if name not in files and any(fnmatch(name, pattern) for pattern in OURS)]
    operations += [CommitOperationDelete(name) for name in left]
    found = api.create_commit(
        before.id, operations, commit_message=message, revision=revision, parent_commit=before.sha
    )
    return str(found.oid)
