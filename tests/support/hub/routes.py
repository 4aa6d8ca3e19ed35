"""What is asked, what is answered, and the table of who answers what."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

NAME = r"(?P<name>[\w.-]+(?:/[\w.-]+)?)"
KIND = r"(?P<kind>models|datasets)"


@dataclass
class Asked:
    """A request; `path` is without its query."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    status: int | None = None
    """That of the answer, once there is one."""
    named: dict[str, str] = field(default_factory=dict)
    """The parts of the path that the route names."""

    @property
    def token(self) -> str | None:
        """Return the token that was sent."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" else None

    def form(self) -> dict[str, list[str]]:
        """Return the fields of a form."""
        return parse_qs(self.body.decode())

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass
class Reply:
    """An answer, as it is before a fault changes it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of(cls, content: Any, status: int = 200, **headers: str) -> "Reply":
        """Return an answer in JSON."""
        return cls(status, {"Content-Type": "application/json", **headers}, json.dumps(content).encode())


class Refused(Exception):
    """A request that ends in an error of the hub: status, X-Error-Code, X-Error-Message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def reply(self) -> Reply:
        """Return the answer in the hub's own words."""
        headers = {"X-Error-Message": self.message} | ({"X-Error-Code": self.code} if self.code else {})
        return Reply.of({"error": self.message}, self.status, **headers)


Answer = Callable[[Any, Asked], Reply]
ROUTES: list[tuple[tuple[str, ...], re.Pattern[str], Answer]] = []
"""Methods, the whole path, and who answers with (hub, asked); the first that fits does."""


def route(methods: str, path: str) -> Callable[[Answer], Answer]:
    """Add a function to the table: `@route("GET HEAD", f"/api/{KIND}/{NAME}/refs")`."""

    def add(answer: Answer) -> Answer:
        ROUTES.append((tuple(methods.split()), re.compile(path), answer))
        return answer

    return add


def answered(hub: Any, asked: Asked) -> Reply:
    """Return the answer to a request."""
    for methods, path, answer in ROUTES:
        if asked.method in methods and (found := path.fullmatch(asked.path)):
            asked.named = found.groupdict()
            try:
                return answer(hub, asked)
            except Refused as refused:
                return refused.reply()
    return Refused(404, "", f"no such page: {asked.path}").reply()
