"""Rows of a data set of the hub, by its own client, of one commit; no torch."""

import re
from pathlib import Path
from typing import Any

from molex_cli.errors import DataError, nearest, reason_of
from molex_cli.models.hub import cache, connection, problems, repositories
from molex_cli.models.hub.problems import Source

NO_CONFIGURATION = re.compile(r"BuilderConfig '.*' not found\. Available: \[(.*)\]")
NOT_CACHED = re.compile(r"Couldn't find cache for .* for config '.*' Available configs in the cache: \[(.*)\]")
NO_SPLIT = re.compile(r"Unknown split \".*\"\. Should be one of \[(.*)\]")


def loaded(source: Source, subset: str | None, split: str, split_key: str) -> Any:
    """Return the rows of a split; raise the one line of why they cannot be had."""
    if Path(source.name).is_dir():  # the client would take that, without a word
        raise DataError(
            f"{source.key} must be {source.title} of the hub, got {source.name}, which is a folder here, too; "
            "start the command in another folder, or set task.files.train to a file"
        )
    found = repositories.at(source)
    import datasets

    datasets.logging.set_verbosity_error()
    try:
        rows = datasets.load_dataset(source.name, subset, split=split, revision=found.commit)
    except Exception as error:  # there is no end to what the client raises
        raise _told(error, source, subset, split, split_key) from error
    _require_commit(source, commit_of(rows))
    return rows


def commit_of(rows: Any) -> str | None:
    """Return the commit that rows are of: the client keeps those of each in a folder of that name."""
    folders = {Path(each["filename"]).parent.name for each in rows.cache_files}
    commit = folders.pop() if len(folders) == 1 else ""
    return commit if cache.COMMIT.fullmatch(commit) else None


def _require_commit(source: Source, got: str | None) -> None:
    """Raise where the client gives the rows of another commit: it takes the newest ones that it has, if need be."""
    key = repositories.key_of(source)
    wanted = repositories.at(source).commit if source.revision or key in repositories.pinned() else None
    if connection.why_offline() and wanted and got and got != wanted:
        raise DataError(
            f"{source.owner} must come from commit {wanted} of {source.name}, got {connection.why_offline()} and a "
            f"cached copy of commit {got}; repeat the command with a connection, or set {source.revision_key}={got}"
        )


def _told(error: Exception, source: Source, subset: str | None, split: str, split_key: str) -> Exception:
    said = reason_of(error)
    for pattern, key, got in (
        (NO_CONFIGURATION, "task.hub.subset", subset),
        (NOT_CACHED, "task.hub.subset", subset),
        (NO_SPLIT, split_key, split),
    ):
        if found := pattern.search(said):
            names = [name.strip(" '\"") for name in found[1].split(",")]
            kept = " in the cache" if pattern is NOT_CACHED else ""
            return DataError(f"{key} must be one of {source.name}{kept}, got {got}; {nearest(str(got), names)}")
    if told := problems.told(error, source):
        return told
    if connection.why_offline():
        return problems.away(source)
    return DataError(f"{source.key} must be a data set that can be read, got {source.name}: {said}; {source.instead}")
