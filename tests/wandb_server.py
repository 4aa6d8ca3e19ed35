"""A W&B server on the loopback device: as much of its protocol as the client needs to log, resume, sync and be read."""

import base64
import contextlib
import gzip
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "tester"
VIEWER = {
    "id": "u",
    "entity": ENTITY,
    "username": ENTITY,
    "name": ENTITY,
    "email": "",
    "admin": False,
    "flags": "{}",
    "deletedAt": None,
    "teams": {"edges": []},
    "apiKeys": {"edges": []},
    "defaultEntity": {"id": "e", "name": ENTITY},
}


@dataclass
class Logged:
    """What the server was told of one run."""

    project: str
    name: str
    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return the config without the client's wrapping and its own entries."""
        return {key: item["value"] for key, item in self.config.items() if key != "_wandb"}

    def series(self, key: str) -> dict[int, Any]:
        """Return the values of one metric by step."""
        return {line["_step"]: line[key] for line in self.history if key in line}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self._refused():
            self._answer({})

    def handle_one_request(self) -> None:
        if self.server.home.alive:
            super().handle_one_request()
        else:
            self.close_connection = True

    def do_PUT(self) -> None:
        name, path = re.fullmatch(r"/storage/([^/]+)/(.*)", self.path).groups()
        self.server.home.runs[name].files[path] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.server.home.silent:
            threading.Event().wait(600)
        if not self.server.home.alive:
            self.close_connection = True
            return
        if self._refused():
            return
        if self.path == "/graphql":
            self._answer(answer(self.server.home, json.loads(body), self.headers["Host"]))
        elif stream := re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", self.path):
            take(self.server.home.run(*stream.groups()), json.loads(body or "{}"))
            self._answer({"limits": {}})
        else:
            self._answer({})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _chunk(self) -> bytes:
        chunk = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return chunk

    def _refused(self) -> bool:
        status = self.server.home.refusal
        if status is not None:
            self._send(status, b"<html>this is no W&B server</html>")
        return status is not None

    def _answer(self, content: dict[str, Any]) -> None:
        self._send(200, json.dumps(content).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Quiet(ThreadingHTTPServer):
    """Says nothing of connections that a client drops."""

    daemon_threads = True

    def __init__(self, home: "Server") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.home = home

    def handle_error(self, *_: Any) -> None:
        pass


class Server:
    """Predictions while `running()`.

    `silent` takes requests without ever answering them; `refusal` answers all with a status and a page.
    """

    def __init__(
        self, *, silent: bool = False, refusal: int | None = None, runs: dict[str, Logged] | None = None
    ) -> None:
        self.silent, self.refusal, self.alive = silent, refusal, True
        self.runs: dict[str, Logged] = {} if runs is None else runs
        self.views: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self._http = Quiet(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @contextlib.contextmanager
    def running(self) -> Iterator["Server"]:
        """Serve until the end of the block."""
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.die()

    def die(self) -> None:
        """Refuse all connections from now on, those that are open included."""
        self._http.shutdown()
        self._http.server_close()
        self.alive = False

    def run(self, project: str, name: str) -> Logged:
        """Return a run, a new one if there is none of that name."""
        return self.runs.setdefault(name, Logged(project, name))


def take(run: Logged, told: dict[str, Any]) -> None:
    """Add what the client streams: history lines from an offset on, the newest summary, the end."""
    for name, chunk in (told.get("files") or {}).items():
        lines = [json.loads(line) for line in chunk["content"]] if name.endswith((".jsonl", ".json")) else []
        if name == "wandb-history.jsonl":
            run.history[chunk["offset"] : chunk["offset"] + len(lines)] = lines
        elif name == "wandb-summary.json":
            run.summary = lines[-1]
    if told.get("complete"):
        run.exit_code = told["exitcode"]


def answer(server: Server, request: dict[str, Any], host: str) -> dict[str, Any]:
    """Return the answer to a GraphQL request; what the server does not know is an error, as the client expects."""
    given = request.get("variables") or {}
    operation = request.get("operationName") or re.search(r"\b(?:query|mutation)\s+(\w+)", request["query"])[1]
    server.asked.append(operation)
    match operation:
        case "Viewer" | "GetViewer" | "GetDefaultEntity":
            return {"data": {"viewer": VIEWER}}
        case "ServerFeaturesQuery" | "ServerFeatures":
            return {"data": {"serverInfo": {"features": []}}}
        case "ServerInfo":
            versions = {"max_cli_version": "9.0.0", "min_cli_version": "0.1.0"}
            local = {"outOfDate": False, "latestVersionString": "9.0.0", "versionOnThisInstanceString": "9.0.0"}
            about = {"cliVersionInfo": versions, "latestLocalVersionInfo": local, "features": []}
            return {"data": {"viewer": VIEWER, "serverInfo": about}}
        case "RunStoppedStatus" | "RunStopStatus":
            return {"data": {"project": {"run": {"stopped": False}}}}
        case "RunResumeStatus":
            known = server.runs.get(given["name"])
            found = None if known is None else bucket(known)
            model = {"id": "m", "name": given["project"], "entity": {"id": "e", "name": ENTITY}, "bucket": found}
            return {"data": {"model": model}}
        case "UpsertBucket":
            name = given.get("name") or base64.b64decode(given["id"]).decode().split(":")[1]
            new = name not in server.runs
            run = server.run(given.get("project") or "uncategorized", name)
            run.about |= {key: value for key, value in given.items() if value is not None}
            if given.get("config"):
                run.config = json.loads(given["config"])
            return {"data": {"upsertBucket": {"bucket": bucket(run), "inserted": new}}}
        case "CreateRunFiles":
            name = given.get("run") or given.get("runName")
            files = [{"name": file, "uploadUrl": f"http://{host}/storage/{name}/{file}"} for file in given["files"]]
            return {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
        case "UpsertView2":
            server.views.append(given)
            return {"data": {"upsertView": {"view": {"id": "v", "name": given.get("name")}, "inserted": True}}}
        case _:
            return {"data": None, "errors": [{"message": f"no operation {operation}"}]}


def bucket(run: Logged) -> dict[str, Any]:
    """Return what the server says of a run."""
    tail = [json.dumps(line) for line in run.history[-1:]]
    identity = base64.b64encode(f"Run:{run.name}:{run.project}:{ENTITY}".encode()).decode()
    return {
        "id": identity,
        "name": run.name,
        "displayName": run.about.get("displayName") or run.name,
        "description": "",
        "notes": None,
        "config": json.dumps(run.config),
        "sweepName": None,
        "historyLineCount": len(run.history),
        "logLineCount": 0,
        "eventsLineCount": 0,
        "historyTail": json.dumps(tail),
        "eventsTail": "[]",
        "summaryMetrics": json.dumps(run.summary),
        "tags": run.about.get("tags") or [],
        "wandbConfig": json.dumps({}),
        "project": {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}},
    }
