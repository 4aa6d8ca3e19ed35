"""The hub itself: an HTTP server with repositories, tokens, faults, and a log of what it was asked."""

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.hub.faults import Fault
from support.hub.reading import PAGE
from support.hub.repository import Repository
from support.hub.routes import Asked, Refused, Reply, answered

READER = "hf_" + "readerreader" * 3
"""A token with access to what is gated or private."""
STRANGER = "hf_" + "strangerxxxx" * 3
"""A token without."""
WRITER = "hf_" + "writerwriter" * 3
"""The token of ada, who has repositories of her own and may write to them."""
WRITERS_READER = "hf_" + "adareadsonly" * 3
"""Another one of hers, with which she may only read."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        if self.server.home.ended.is_set():
            self.close_connection = True
        else:
            super().handle_one_request()

    def answer(self) -> None:
        hub, address = self.server.home, urlsplit(self.path)
        asked = Asked(self.command, address.path, address.query, self.headers, self._body())
        hub.log.append(asked)
        reply = answered(hub, asked)
        if fault := next((each for each in hub.faults if each.fits(asked)), None):
            reply = fault.act(self, reply)
        if reply is None:
            self.close_connection = True
            return
        asked.status = reply.status
        self.send_head(reply)
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def send_head(self, reply: Reply) -> None:
        """Send status and headers; the length is that of the whole body."""
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunk(self) -> bytes:
        chunk = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return chunk


class Quiet(ThreadingHTTPServer):
    """Says nothing of connections that a client drops."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, home: "Hub", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.home = home

    def handle_error(self, *_: Any) -> None:
        pass


class Hub:
    """Serves while in a `with` block; `url` is what HF_ENDPOINT must be."""

    def __init__(self) -> None:
        self._http = Quiet(self)
        port = self._port = self._http.server_port
        self.url, self.storage = f"http://127.0.0.1:{port}", f"http://localhost:{port}/storage"
        self.ended = threading.Event()
        self.reset()

    def reset(self) -> None:
        """Forget all repositories, faults and requests."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.tokens = {READER: "reader", STRANGER: "stranger", WRITER: "ada", WRITERS_READER: "ada"}
        self.read_only = {READER, STRANGER, WRITERS_READER}
        self.stored: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[Asked] = []
        self.page = PAGE

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Refuse all connections from now on, those that are open included."""
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """Be no server for a while; then serve at the same address again."""
        self.__exit__()
        yield
        self.ended.clear()
        self._http = Quiet(self, self._port)
        self.__enter__()

    def add(self, kind: str, name: str, files: Mapping[str, bytes] | Path, **about: bool) -> Repository:
        """Serve a repository with a first commit on main; `kind` is models or datasets, `about` gated or private."""
        repository = self.repositories[kind, name] = Repository(kind, name, **about)
        repository.commit(files)
        return repository

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables of a process whose clients ask this hub and keep what they get in `home`."""
        times = {"HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_OFFLINE": "0"}
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "NO_PROXY": "*"}
        quiet["HF_HUB_DISABLE_XET"] = "1"  # large files then go to and fro over HTTP
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), **times, **quiet}

    def requests(self, path: str, method: str = ".*") -> list[Asked]:
        """Return the requests whose path holds a pattern."""
        return [each for each in self.log if re.search(path, each.path) and re.fullmatch(method, each.method)]

    def require_known(self, asked: Asked) -> None:
        """Refuse a token that the hub has not given."""
        if asked.token is not None and asked.token not in self.tokens:
            raise Refused(401, "", "Invalid credentials in Authorization header")

    def repository(self, asked: Asked) -> Repository:
        """Return the repository that a request names, where who asks may know of it."""
        self.require_known(asked)
        found = self.repositories.get((asked.named["kind"] or "models", asked.named["name"]))
        if found is None or (found.private and not self._has_access(asked, found)):
            # Without a token it says nothing of what there is.
            status, message = (404, "Repository not found") if asked.token else (401, "Invalid username or password.")
            raise Refused(status, "RepoNotFound", message)
        return found

    def readable(self, asked: Asked) -> Repository:
        """Return the repository that a request names, where who asks may have its files."""
        found = self.repository(asked)
        if found.gated and not self._has_access(asked, found):
            status, who = (
                (403, "you are not in the authorized list") if asked.token else (401, "you must be authenticated")
            )
            raise Refused(status, "GatedRepo", f"Access to {found.kind[:-1]} {found.name} is restricted, {who}.")
        return found

    def _has_access(self, asked: Asked, found: Repository) -> bool:
        user = self.tokens.get(asked.token or "")
        return user is not None and user in ("reader", found.name.partition("/")[0])
