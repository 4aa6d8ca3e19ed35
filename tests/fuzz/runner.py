"""Places in which a command can do harm, and commands that are run in them by the server."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import molex_cli

TESTS = Path(__file__).parents[1]
CODE = Path(molex_cli.__file__).parents[1]  # what is fuzzed: the molex that this process would import
SECONDS = 20.0  # that a command may take
MARK = "canary5ecret"
SECRETS = {
    "WANDB_API_KEY": f"{MARK:w<40}",
    "HF_TOKEN": f"hf_{MARK:h<34}",
    "MY_SECRET_TOKEN": f"{MARK}mine",
}


@dataclass
class Ended:
    """How a command ended, and what it showed."""

    code: int
    seconds: float
    busy: float
    """Seconds of a processor."""
    stopped: list[str]
    """The signals that it was sent after its time, in their order."""
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A folder with what a command works on, `work`, and with all that it has no business with."""

    folder: Path

    @property
    def work(self) -> Path:
        """Return the working directory of commands."""
        return self.folder / "work"

    @property
    def outside(self) -> Path:
        """Return a folder that no command may touch."""
        return self.folder / "outside"

    def made(self) -> "Place":
        """Make the folders, and decoys in those that nobody may touch."""
        for name in ("work", "outside", "home", "cache", "tmp", "streams"):
            (self.folder / name).mkdir(parents=True)
        (self.outside / "precious.txt").write_text("as it was\n")
        (self.folder / "home" / "notes.txt").write_text("as it was\n")
        return self

    def environment(self, changed: Mapping[str, str | None]) -> dict[str, str]:
        """Return what a command finds in its environment: secrets to be kept, and nothing of the tester's."""
        made = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "MOLEX_CACHE": str(self.folder / "cache"),
            "MPLCONFIGDIR": str(self.folder.parent / "matplotlib"),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "offline",
            **SECRETS,
        }
        whole = {**made, **changed}
        return {name: filled(value, self) for name, value in whole.items() if value is not None}


def filled(text: str, place: Place) -> str:
    """Return a text with the paths of a place in it."""
    return text.replace("@OUTSIDE@", str(place.outside)).replace("@WORK@", str(place.work))


class Molex:
    """The server, started once, and commands that it runs."""

    def __init__(self, folder: Path) -> None:
        for name in ("tmp", "home", "matplotlib"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{CODE}{os.pathsep}{TESTS}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "MPLCONFIGDIR": str(folder / "matplotlib"),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "fuzz.server"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, cwd=folder, text=True)
        self._answer()

    def __enter__(self) -> "Molex":
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(
        self,
        place: Place,
        arguments: Sequence[str],
        environment: Mapping[str, str | None] | None = None,
        before: str = "",
        seconds: float = SECONDS,
    ) -> Ended:
        """Run a command; `before` names a function that its process calls first."""
        streams = place.folder / "streams"
        for name in ("out", "err"):
            (streams / name).write_text("")
        wanted = {
            "folder": str(place.work),
            "environment": place.environment(environment or {}),
            "arguments": [filled(argument, place) for argument in arguments],
            "stdin": "/dev/null",
            "stdout": str(streams / "out"),
            "stderr": str(streams / "err"),
            "seconds": seconds,
            "before": before,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        out, err = ((streams / name).read_bytes().decode(errors="surrogateescape") for name in ("out", "err"))
        return Ended(**answer, out=out, err=err)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the fuzzer's server has ended")
        return dict(json.loads(line))


def copied(template: Place, folder: Path) -> Place:
    """Return a fresh copy of a place, with a pipe in its working directory that nobody writes to."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template.folder, folder, symlinks=True)
    place = Place(folder)
    os.mkfifo(place.work / "pipe")
    return place
