"""What the caches of the hub's clients have, for when the hub is away; no torch."""

import json
import re
from pathlib import Path

from molex_cli.models.hub import problems
from molex_cli.models.hub.problems import Source
from molex_cli.records.partial import renamed_when_whole

COMMIT = re.compile("[0-9a-f]{40}")
WEIGHTS = (
    re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"),
    re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?"),
)
"""Names of weights as transformers looks for them; a repository may hold the same ones in several formats."""
PART = "only a part of the cached copy"


def snapshot(source: Source, commit: str) -> Path:
    """Return the folder of a commit, which may not be there."""
    return _place(source) / "snapshots" / commit


def commit_of(source: Source) -> str | None:
    """Return the commit that a revision names, or that its branch or tag was when the hub was last asked."""
    if COMMIT.fullmatch(source.revision or ""):
        return source.revision
    path = _place(source) / "refs" / (source.revision or "main")
    commit = path.read_text(errors="replace").strip() if path.is_file() else ""
    return commit if COMMIT.fullmatch(commit) else None


def remember(source: Source, commit: str) -> None:
    """Keep the commit of a branch or tag, as the hub's client does, for when the hub is away."""
    path = _place(source) / "refs" / (source.revision or "main")
    if commit_of(source) == commit:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with renamed_when_whole(path) as temporary:
            temporary.write_text(commit)
    except OSError:
        return  # a cache that others wrote may be read-only


def model(source: Source, commit: str, *, weights: bool) -> Path:
    """Return the folder of a commit in the cache; raise where not all that is wanted came while the hub was there."""
    folder = snapshot(source, commit)
    there = {path.name for path in folder.iterdir()}
    shards = {
        shard
        for index in there
        if index.endswith(".index.json") and any(kind.fullmatch(index) for kind in WEIGHTS)
        for shard in json.loads((folder / index).read_text())["weight_map"].values()
    }
    if weights and not (shards <= there and any(kind.fullmatch(name) for kind in WEIGHTS for name in there)):
        raise problems.away(source, PART)
    return folder


def is_prepared(source: Source) -> bool:
    """Return whether the client of data sets has some rows of this one."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    owner, slash, name = source.name.rpartition("/")
    return (Path(config.HF_DATASETS_CACHE) / f"{owner}{'___' if slash else ''}{camelcase_to_snakecase(name)}").is_dir()


def _place(source: Source) -> Path:
    """Return the folder of a repository in the cache of the hub's client."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source.name, repo_type=source.kind)
