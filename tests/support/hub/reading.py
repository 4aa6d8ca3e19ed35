"""The routes that read: what is in a repository, its files, who asks."""

import re
from typing import Any
from urllib.parse import unquote, urlencode

from support.hub.repository import Repository, git_hash, is_large, large_hash
from support.hub.routes import KIND, NAME, Asked, Refused, Reply, route

PAGE = 1000  # entries of a listing


@route("GET", "/api/whoami-v2")
def whoami(hub: Any, asked: Asked) -> Reply:
    """Say who asks."""
    hub.require_known(asked)
    if asked.token is None:
        raise Refused(401, "", "Invalid username or password.")
    role = {"displayName": "test", "role": "write"}
    return Reply.of({"type": "user", "name": hub.tokens[asked.token], "orgs": [], "auth": {"accessToken": role}})


@route("GET", f"/api/{KIND}/{NAME}/auth-check")
def auth_check(hub: Any, asked: Asked) -> Reply:
    """Say whether who asks may have the files."""
    hub.readable(asked)
    return Reply.of({})


@route("GET", f"/api/{KIND}/{NAME}/refs")
def refs(hub: Any, asked: Asked) -> Reply:
    """List the branches."""
    found = hub.repository(asked).refs.items()
    branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in found]
    return Reply.of({"branches": branches, "tags": [], "converts": []})


@route("GET", f"/api/{KIND}/{NAME}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
def tree(hub: Any, asked: Asked) -> Reply:
    """List files and folders, in pages."""
    repository = hub.readable(asked)
    sha, files = _files(repository, unquote(asked.named["revision"]))
    entries = _entries(files, unquote(asked.named["folder"] or ""), recursive="recursive=true" in asked.query.lower())
    if asked.named["folder"] and not entries:
        raise Refused(404, "EntryNotFound", f"{asked.named['folder']} does not exist on {sha}")
    start = int(found[1]) if (found := re.search(r"cursor=(\d+)", asked.query)) else 0
    headers = {}
    if start + hub.page < len(entries):
        query = urlencode({"recursive": "recursive=true" in asked.query.lower(), "cursor": start + hub.page})
        headers["Link"] = f'<{hub.url}{asked.path}?{query}>; rel="next"'
    return Reply.of(entries[start : start + hub.page], **headers)


@route("POST", f"/api/{KIND}/{NAME}/paths-info/(?P<revision>[^/]+)")
def paths_info(hub: Any, asked: Asked) -> Reply:
    """Describe the files and folders that are named."""
    _, files = _files(hub.readable(asked), unquote(asked.named["revision"]))
    wanted = asked.form().get("paths", [])
    folders = {entry["path"]: entry for entry in _entries(files, "", recursive=True) if entry["type"] == "directory"}
    found = [_file(path, files[path]) if path in files else folders.get(path) for path in wanted]
    return Reply.of([entry for entry in found if entry])


@route("GET", f"/api/{KIND}/{NAME}/revision/(?P<revision>.+)")
def about_revision(hub: Any, asked: Asked) -> Reply:
    """Describe a repository at a revision."""
    return _about(hub.repository(asked), unquote(asked.named["revision"]), asked)


@route("GET HEAD", "/api/resolve-cache/" + KIND + "/" + NAME + r"/(?P<revision>[0-9a-f]{40})/(?P<file>.+)")
@route("GET HEAD", "/(?:(?P<kind>datasets)/)?" + NAME + "/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
def resolve(hub: Any, asked: Asked) -> Reply:
    """Send a file of git, after a redirect within the hub, or the address of a large one."""
    repository, name = hub.readable(asked), unquote(asked.named["file"])
    sha, files = _files(repository, unquote(asked.named["revision"]))
    if name not in files:
        refused = Refused(404, "EntryNotFound", "Entry not found").reply()
        return Reply(refused.status, {**refused.headers, "X-Repo-Commit": sha}, refused.body)
    content = files[name]
    about = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if is_large(name):
        place = f"{hub.storage}/{large_hash(content)}"
        hub.stored[large_hash(content)] = content
        linked = {"X-Linked-Etag": f'"{large_hash(content)}"', "X-Linked-Size": str(len(content)), "Location": place}
        return Reply(302, about | linked)
    if not asked.path.startswith("/api/resolve-cache"):
        place = f"/api/resolve-cache/{repository.kind}/{repository.name}/{sha}/{asked.named['file']}"
        return Reply(307, about | {"Location": place, "ETag": f'"{git_hash(content)}"'})
    return part(asked, content, about | {"ETag": f'"{git_hash(content)}"'})


@route("GET HEAD", "/storage/(?P<hash>[0-9a-f]{64})")
def storage(hub: Any, asked: Asked) -> Reply:
    """Send a large file: this is another host than the hub, which must see no token."""
    content = hub.stored[asked.named["hash"]]
    return part(asked, content, {"ETag": f'"{asked.named["hash"]}"', "Accept-Ranges": "bytes"})


@route("GET", f"/api/{KIND}/{NAME}")
def about(hub: Any, asked: Asked) -> Reply:
    """Describe a repository at its main branch; the last route, for its pattern fits what others mean."""
    return _about(hub.repository(asked), "main", asked)


def part(asked: Asked, content: bytes, headers: dict[str, str]) -> Reply:
    """Return what is asked for of a file: all of it, or the bytes of a range."""
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.headers.get("Range", ""))
    if not wanted:
        return Reply(200, headers, content)
    first, last = wanted.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(int(last), len(content) - 1) if first and last else len(content) - 1
    if start >= len(content):
        return Reply(416, {"Content-Range": f"bytes */{len(content)}"})
    return Reply(206, headers | {"Content-Range": f"bytes {start}-{end}/{len(content)}"}, content[start : end + 1])


def _about(repository: Repository, revision: str, asked: Asked) -> Reply:
    sha, files = _files(repository, revision)
    has_hashes = "blobs=true" in asked.query.lower()
    return Reply.of(
        {
            "_id": "0" * 24,
            "id": repository.name,
            "sha": sha,
            "private": repository.private,
            "gated": "manual" if repository.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": name, **(_hashes(name, files[name]) if has_hashes else {})} for name in files],
        }
    )


def _hashes(name: str, content: bytes) -> dict[str, Any]:
    """Return what a description of a repository tells of a file, where it is asked to."""
    about = {"blobId": git_hash(content), "size": len(content)}
    large = {"sha256": large_hash(content), "size": len(content), "pointerSize": 134}
    return about | ({"lfs": large} if is_large(name) else {})


def _files(repository: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
    sha = repository.resolve(revision)
    if sha is None:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return sha, repository.commits[sha]


def _entries(files: dict[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Return what is in a folder, as the listing has it."""
    within, entries = f"{folder}/" if folder else "", {}
    for path, content in sorted(files.items()):
        if not path.startswith(within):
            continue
        parts = path[len(within) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            inner = within + "/".join(parts[:depth])
            entries[inner] = {"type": "directory", "path": inner, "oid": git_hash(inner.encode()), "size": 0}
        if recursive or len(parts) == 1:
            entries[path] = _file(path, content)
    return list(entries.values())


def _file(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "oid": git_hash(content), "size": len(content)}
    if is_large(path):
        entry["lfs"] = {"oid": large_hash(content), "size": len(content), "pointerSize": 134}
    return entry
