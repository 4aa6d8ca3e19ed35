"""A hub on the loopback device: as much of the Hugging Face hub's protocol as its clients use."""

from support.hub import reading, writing  # noqa: F401  # their routes
from support.hub.faults import Fault, cut, hanging, shortened, status, trickling
from support.hub.repository import Repository
from support.hub.routes import Asked, Reply, route
from support.hub.server import READER, STRANGER, WRITER, WRITERS_READER, Hub

__all__ = [
    "READER",
    "STRANGER",
    "WRITER",
    "WRITERS_READER",
    "Asked",
    "Fault",
    "Hub",
    "Reply",
    "Repository",
    "cut",
    "hanging",
    "route",
    "shortened",
    "status",
    "trickling",
]
