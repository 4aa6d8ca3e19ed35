"""The routes that write: repositories and branches are made, files are sent, commits end it."""

import base64
import json
import re
from typing import Any
from urllib.parse import unquote

import yaml

from support.hub.repository import Repository, git_hash, is_large, large_hash
from support.hub.routes import KIND, NAME, Asked, Refused, Reply, route

FIRST = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
FORBIDDEN = "You don't have the rights to"


@route("POST", "/api/repos/create")
def create(hub: Any, asked: Asked) -> Reply:
    """Make a repository with a first commit."""
    wanted = asked.json()
    owner = wanted["organization"] or hub.tokens.get(asked.token)
    name = f"{owner}/{wanted['name']}"
    require_writer(hub, asked, owner, f"{FORBIDDEN} create a model under the namespace {owner!r}")
    url = {"url": f"{hub.url}/{name}"}
    if ("models", name) in hub.repositories:
        return Reply.of({"error": "You already created this model repo", **url}, 409)
    hub.add("models", name, FIRST, private=wanted.get("visibility") == "private")
    return Reply.of(url)


@route("POST", f"/api/{KIND}/{NAME}/branch/(?P<branch>.+)")
def branch(hub: Any, asked: Asked) -> Reply:
    """Make a branch at the main one."""
    repository, name = writable(hub, asked), unquote(asked.named["branch"])
    if name in repository.refs:
        raise Refused(409, "", f"Reference already exists: {name}")
    repository.refs[name] = repository.refs["main"]
    return Reply.of({})


@route("POST", "/api/validate-yaml")
def validate(hub: Any, asked: Asked) -> Reply:
    """Refuse a card whose metadata is no YAML, or whose results lack what the hub asks for."""
    block = re.match(r"---\n(.*?)\n---\n", asked.json()["content"], re.DOTALL)
    data = yaml.safe_load(block[1]) if block else {}
    results = [result for model in data.get("model-index", []) for result in model["results"]]
    if any("type" not in each["task"] or not {"type", "name"} <= each["dataset"].keys() for each in results):
        return Reply.of({"errors": [{"message": '"model-index[0].results" lacks a type'}], "warnings": []}, 400)
    return Reply.of({"errors": [], "warnings": [] if data.get("license") else [{"message": "license is missing"}]})


@route("POST", f"/api/{KIND}/{NAME}/preupload/(?P<revision>[^/]+)")
def preupload(hub: Any, asked: Asked) -> Reply:
    """Say how each file is to be sent, and which content the branch has for it."""
    files = content_of(writable(hub, asked), asked)
    return Reply.of({"files": [upload_mode(each["path"], files.get(each["path"])) for each in asked.json()["files"]]})


@route("POST", f"/{NAME}[.]git/info/lfs/objects/batch")
def batch(hub: Any, asked: Asked) -> Reply:
    """Say where large files go; those that are there need not be sent."""
    asked.named["kind"] = "models"
    writable(hub, asked)
    wanted = asked.json()["objects"]
    return Reply.of({"transfer": "basic", "objects": [each | upload_to(hub, each["oid"]) for each in wanted]})


@route("PUT", "/storage/(?P<hash>[0-9a-f]{64})")
def store(hub: Any, asked: Asked) -> Reply:
    """Take a large file: this is another host than the hub, which must see no token."""
    if asked.token is not None or large_hash(asked.body) != asked.named["hash"]:
        return Reply(400)
    hub.stored[asked.named["hash"]] = asked.body
    return Reply()


@route("POST", f"/api/{KIND}/{NAME}/commit/(?P<revision>[^/]+)")
def commit(hub: Any, asked: Asked) -> Reply:
    """Add a commit that adds and deletes what its lines say."""
    repository = writable(hub, asked)
    content_of(repository, asked)
    revision = unquote(asked.named["revision"])
    added, deleted = {}, set()
    for line in map(json.loads, asked.body.splitlines()):
        about = line["value"]
        if line["key"] == "file":
            added[about["path"]] = base64.b64decode(about["content"])
        elif line["key"] == "lfsFile":
            added[about["path"]] = hub.stored[about["oid"]]
        elif line["key"] == "deletedFile":
            deleted.add(about["path"])
        elif about.get("parentCommit") not in (None, repository.refs[revision]):
            raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
        else:
            repository.messages.append(about["summary"])
    sha = repository.commit(added, revision, without=deleted)
    return Reply.of({"success": True, "commitOid": sha, "commitUrl": f"{hub.url}/{repository.name}/commit/{sha}"})


def writable(hub: Any, asked: Asked) -> Repository:
    """Return the repository that a request names, where who asks may write to it."""
    repository = hub.repository(asked)
    owner = repository.name.partition("/")[0]
    require_writer(hub, asked, owner, f"{FORBIDDEN} push to {repository.name}")
    return repository


def require_writer(hub: Any, asked: Asked, owner: str, message: str) -> None:
    """Refuse whoever is not the owner, and a token of theirs that may only read."""
    hub.require_known(asked)
    if asked.token is None:
        raise Refused(401, "", "Invalid username or password.")
    if hub.tokens[asked.token] != owner or asked.token in hub.read_only:
        raise Refused(403, "", message)


def content_of(repository: Repository, asked: Asked) -> dict[str, bytes]:
    """Return the files of the branch that a request names."""
    revision = unquote(asked.named["revision"])
    if revision not in repository.refs:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return repository.commits[repository.refs[revision]]


def upload_mode(path: str, there: bytes | None) -> dict[str, Any]:
    """Return how a file is sent, and the hash of what is there."""
    large = is_large(path)
    known = {} if there is None else {"oid": large_hash(there) if large else git_hash(there)}
    return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **known}


def upload_to(hub: Any, oid: str) -> dict[str, Any]:
    return {} if oid in hub.stored else {"actions": {"upload": {"href": f"{hub.storage}/{oid}", "header": {}}}}
