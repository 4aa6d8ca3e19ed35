"""Fixtures for commands that ask a hub; a test file says `pytest_plugins = ["support.hub.fixtures"]`."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.hub.commands import Commands, Ended, started
from support.hub.server import Hub


@dataclass(frozen=True)
class HubProcess:
    """A hub, what runs commands that ask it, and the folder of their clients' caches."""

    hub: Hub
    commands: Commands
    home: Path


@pytest.fixture(scope="module")
def hub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """Start one hub and one process for all tests of a module: its imports take seconds."""
    folder = tmp_path_factory.mktemp("hub")
    home = folder / "huggingface"
    with Hub() as hub, started({**hub.environment(home), "MOLEX_CACHE": str(folder / "cache")}) as commands:
        yield HubProcess(hub, commands, home)


@pytest.fixture
def hub(hub_process: HubProcess) -> Hub:
    """Return the hub without repositories, faults or requests, and with the clients' caches empty."""
    shutil.rmtree(hub_process.home, ignore_errors=True)
    hub_process.hub.reset()
    return hub_process.hub


@pytest.fixture
def molex(hub_process: HubProcess, hub: Hub, tmp_path: Path) -> Callable[..., Ended]:
    """Return a function that runs a command in the test's folder: `molex("list", "tasks", HF_TOKEN=READER)`."""

    def run(*arguments: str, **environment: str | None) -> Ended:
        return hub_process.commands.run(list(arguments), tmp_path, **environment)

    return run
