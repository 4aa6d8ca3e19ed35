"""Which commit of the hub a setting means, the same all through a process, and its files; no torch."""

import hashlib
import itertools
import re
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from molex_cli.errors import MolexError
from molex_cli.models.hub import cache, connection, problems
from molex_cli.models.hub.problems import Source
from molex_cli.runtime.streams import say

WAITS = (1.0, 2.0)  # seconds between tries to ask the hub, where it gives no answer that counts
NO_REVISION = re.compile(r"^/|\.\.")
"""What no name of a branch or tag has in git."""
SMALL = (".json", ".txt", ".model", ".jinja")
"""Endings of what describes a model: its config, its tokenizer."""
ADAPTER = "adapter_config.json"  # of PEFT, whose weights transformers would look for beside the model's own
Key = tuple[str, str, str | None]


@dataclass(frozen=True)
class Found:
    """What a revision is at the moment."""

    commit: str | None
    """None where only a cache is there and does not tell."""
    files: Mapping[str, str] | None = None
    """The hash of each file by its path; None where the hub was not asked."""

    def names(self, *, weights: bool) -> list[str]:
        """Return the files that a model is loaded from, with its weights in one format or without any."""
        top = [name for name in self.files or {} if "/" not in name]
        kinds = [[name for name in top if kind.fullmatch(name)] for kind in cache.WEIGHTS]
        chosen = next(filter(None, kinds), [])
        weighty = {*itertools.chain(*kinds), ADAPTER}
        others = [name for name in top if name.endswith(SMALL) and name not in weighty]
        return [*others, *(chosen if weights else [])]

    def fingerprint(self) -> str | None:
        """Return a hash of the files that a model is loaded from; None where the hub was not asked."""
        if not self.files or not all(self.files.values()):
            return None
        lines = [f"{name} {self.files[name]}" for name in sorted(self.names(weights=True))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


_found: dict[Key, Found] = {}
_missing: dict[Key, Exception] = {}
"""Why a source cannot be had: who asks again is told the same."""
_pinned: dict[Key, str] = {}


def pin(commits: Mapping[Key, str]) -> None:
    """Let these commits, and no others, stand for what settings name: those of a run that is resumed."""
    _pinned.clear()
    _pinned.update(commits)


def pinned() -> dict[Key, str]:
    """Return the commits that stand for what settings name."""
    return dict(_pinned)


def key_of(source: Source) -> Key:
    """Return what identifies a source."""
    return source.kind, source.name, source.revision


def at(source: Source) -> Found:
    """Return what a source is, asked once in a process; raise the one line of why it cannot be had."""
    commit = _pinned.get(key_of(source))
    known = _found.get(key_of(source))
    if known and commit in (None, known.commit):
        return known
    if commit:
        source = replace(source, revision=commit, is_resumed=commit != source.revision)
    key = key_of(source)
    if key in _missing:
        raise _missing[key]
    if key not in _found:
        try:
            _found[key] = _looked_up(source)
        except MolexError as error:
            _missing[key] = error
            raise
    return _found[key]


def folder(source: Source, *, weights: bool) -> Path:
    """Return the local folder with a model's files, got from the hub where they are not there yet."""
    found = at(source)
    if found.files is None:
        return cache.model(source, str(found.commit), weights=weights)
    names = found.names(weights=weights)
    if not names:
        raise source.error(f"{source.key} must hold a model's config.json, got {source.name} without one")
    return fetched(source, names)


def fetched(source: Source, names: Iterable[str]) -> Path:
    """Return the local folder of a source's commit with some of its files, got where they are not there yet."""
    from huggingface_hub import hf_hub_download

    got = partial(hf_hub_download, source.name, repo_type=source.kind, revision=at(source).commit)
    try:
        for name in names:
            got(name)
    except Exception as error:
        told = problems.told(error, source)
        if told is None and connection.why_offline():  # since it was asked which files there are
            told = problems.away(source, cache.PART)
        raise told or error from error
    return snapshot(source)


def snapshot(source: Source) -> Path:
    """Return the folder of a source's commit in the cache of the hub's client."""
    return cache.snapshot(source, str(at(source).commit))


def _looked_up(source: Source) -> Found:
    connection.require_endpoint()
    if NO_REVISION.search(source.revision or ""):  # it becomes the name of a file
        raise source.error(problems.no_revision(source))
    if connection.why_offline():
        return _cached(source) or _raise(problems.away(source))
    connection.prepare_clients()
    try:
        found = _asked(source)
    except Exception as error:
        told = problems.told(error, source)
        if told is None:
            raise
        return _instead(source, error, told)
    cache.remember(source, str(found.commit))
    return found


def _asked(source: Source) -> Found:
    """Ask the hub, again where it gives no answer that counts and is there."""
    for wait in (*WAITS, None):
        try:
            return connection.in_time(partial(_asked_once, source), 2 * connection.limit_seconds())
        except Exception as error:
            if wait is None or not _is_worth_another(error):
                raise
            time.sleep(wait)
    raise AssertionError


def _asked_once(source: Source) -> Found:
    from huggingface_hub import HfApi

    ask: Any = HfApi().repo_info
    limit = connection.limit_seconds()
    about = ask(source.name, repo_type=source.kind, revision=source.revision, timeout=limit, files_metadata=True)
    if about.gated:  # it is described to all
        HfApi().auth_check(source.name, repo_type=source.kind)
    if not cache.COMMIT.fullmatch(str(about.sha)):  # it becomes the name of a folder
        raise source.error(problems.no_hub())
    return Found(about.sha, {each.rfilename: _hash(each) for each in about.siblings or []})


def _is_worth_another(error: Exception) -> bool:
    response = getattr(error, "response", None)
    return problems.is_passing(error) and not problems.is_silent(error) and not (response and _waits(response))


def _waits(response: Any) -> bool:
    return connection.retry_after(response) > sum(WAITS)


def _hash(sibling: Any) -> str:
    return sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or ""


def _instead(source: Source, error: Exception, told: Exception) -> Found:
    """Return the cached copy of what the hub did not give, and say so; raise where there is none."""
    from huggingface_hub.errors import HFValidationError, RevisionNotFoundError

    is_passing = any(map(problems.is_passing, problems.chain(error)))
    if is_passing:
        connection.stay_offline(problems.reason(error))
    is_slip = isinstance(error, RevisionNotFoundError) and not cache.COMMIT.fullmatch(str(source.revision))
    cached = None if is_slip or isinstance(error, HFValidationError) else _cached(source)
    if cached is None:
        raise told from error
    why = connection.why_offline() if is_passing else told
    say(f"note: {why}; the cached copy of {source.name} is taken", file=sys.stderr, flush=True)
    return cached


def _raise(error: Exception) -> Found:
    raise error


def _cached(source: Source) -> Found | None:
    """Return what a cache has of a source; which rows those of a data set are, its client finds by itself."""
    commit = cache.commit_of(source)
    if source.kind == "dataset":
        return Found(commit if source.revision else None) if cache.is_prepared(source) else None
    return Found(commit) if commit and cache.snapshot(source, commit).is_dir() else None


def go_offline_if_unreachable() -> bool:
    """Return whether the hub answers; if not, let its clients use their caches without asking.

    For clients of which we do not know what they will ask for; what we know is asked for by `at`.
    """
    if connection.why_offline():
        return False
    connection.require_endpoint()
    connection.prepare_clients()
    from huggingface_hub.utils._http import get_session

    try:
        connection.in_time(lambda: get_session().head(connection.endpoint()), 2 * connection.limit_seconds())
    except Exception as error:  # whichever answer is one
        connection.stay_offline(problems.reason(error))
    return not connection.why_offline()


def commits(sources: Iterable[Source]) -> dict[Key, str]:
    """Return the commit of each source, as far as it can be had."""
    found = {}
    for source in sources:
        try:
            commit = at(source).commit
        except Exception:  # whoever needs it says so
            continue
        if commit:
            found[key_of(source)] = commit
    return found
