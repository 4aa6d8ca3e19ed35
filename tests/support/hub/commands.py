"""Commands of molex, each in a process forked from one that has imported what takes seconds, with a hub's variables.

The clients read HF_ENDPOINT and HF_HOME when they are imported, hence a process that has them from its start.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

HEAVY = (
    "torch", "transformers.modeling_utils", "transformers.models.auto.modeling_auto",
    "transformers.models.roberta.modeling_roberta", "transformers.models.gpt2.modeling_gpt2", "datasets",
    "pyarrow.parquet", "molex_cli.run", "molex_cli.cli.train", "molex_cli.checkpoints.saved_run",
)  # fmt: skip


@dataclass
class Ended:
    """How a command ended, and what it showed."""

    code: int
    out: str
    err: str
    seconds: float

    def line(self) -> str:
        """Return the one line of a user's mistake, or of the run that it ended."""
        told = [line for line in self.err.splitlines() if line.startswith("molex: ")]
        told += [line for line in self.out.splitlines() if line.startswith("failed: ")]
        assert self.code == 2, self
        assert "Traceback" not in self.err, self.err
        assert len(told) == 1, self
        return told[0].partition(": ")[2]


class Commands:
    """Runs commands one after another; made by `started`."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def run(self, arguments: list[str], folder: Path, **environment: str | None) -> Ended:
        """Run `molex ARGUMENTS` in a folder, with some variables set, or unset by None."""
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {"arguments": arguments, "folder": str(folder), "environment": environment}
        start = time.monotonic()
        self._process.stdin.write(json.dumps(wanted) + "\n")
        code = int(self._process.stdout.readline())
        out, err = ((folder / name).read_text() for name in ("shown.txt", "complained.txt"))
        return Ended(code, out, err, time.monotonic() - start)


@contextlib.contextmanager
def started(environment: Mapping[str, str]) -> Iterator[Commands]:
    """Yield what runs commands, with variables that their clients read when they are imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "WANDB_", "MOLEX_"))}
    # The caller's code, and the tests' own folder.
    paths = os.pathsep.join(dict.fromkeys(str(Path(each).resolve()) for each in sys.path if each))
    variables = {**kept, "PYTHONPATH": paths, "WANDB_MODE": "disabled", **environment}
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables, text=True, bufsize=1
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        yield Commands(process)
        process.stdin.close()


def main() -> None:
    """Answer each line of JSON with the exit code of its command; nothing is computed here, for threads do not fork."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for module in HEAVY:
        import_module(module)
    print("ready", file=answers)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers)
    os._exit(0)  # nothing here needs to be tidied, which takes seconds


def _run(wanted: dict[str, Any]) -> None:
    """Be the command, and end this process."""
    for name, value in wanted["environment"].items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    os.chdir(wanted["folder"])
    for descriptor, name in ((1, "shown.txt"), (2, "complained.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = ["molex", *wanted["arguments"]]
    try:
        code = import_module("molex_cli.cli").main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    main()
