"""What may go wrong with an answer: `hub.faults.append(Fault("/storage/", cut()))`."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.hub.routes import Asked, Reply

Act = Callable[[Any, Reply], Reply | None]
"""From (handler, reply) to what is sent in its place; None where the connection is at its end."""


@dataclass
class Fault:
    """A fault of requests whose method and path fit, for so many of them or for all."""

    path: str
    act: Act
    times: int | None = None
    method: str = "GET|HEAD|POST|PUT"

    def fits(self, asked: Asked) -> bool:
        """Return whether this request goes wrong, and count it."""
        if self.times == 0 or not re.fullmatch(self.method, asked.method) or not re.search(self.path, asked.path):
            return False
        self.times = None if self.times is None else self.times - 1
        return True


def status(code: int, **headers: str) -> Act:
    """Answer with a status and a page: 429 with Retry_After="1", 500, 503."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, reply: Reply(code, {"Content-Type": "text/html", **named}, b"<html>not now</html>")


def hanging() -> Act:
    """Take the request and say nothing until the client has gone or the hub ends."""

    def act(handler: Any, reply: Reply) -> None:
        handler.server.home.ended.wait(60)

    return act


def cut(after: float = 0.5) -> Act:
    """Promise the whole answer, send a share of it and end the connection."""

    def act(handler: Any, reply: Reply) -> None:
        handler.send_head(reply)
        handler.wfile.write(reply.body[: int(len(reply.body) * after)])

    return act


def shortened(by: int = 1) -> Act:
    """Send a file without its last bytes as if it were whole."""
    return lambda handler, reply: Reply(reply.status, reply.headers, reply.body[:-by])


def trickling(seconds: float, pieces: int = 10) -> Act:
    """Send the answer in pieces over so many seconds."""

    def act(handler: Any, reply: Reply) -> None:
        handler.send_head(reply)
        size = -(-len(reply.body) // pieces) or 1
        for start in range(0, len(reply.body), size):
            time.sleep(seconds / pieces)
            handler.wfile.write(reply.body[start : start + size])
            handler.wfile.flush()

    return act
