"""Commands in a process of their own whose file operations are counted; one of them may be the last, or fail.

Python tells an audit hook of every file that it opens, renames or removes, before it does so. What is written into an
open file is not told: appends are counted as they are made, and are done by half before the process ends.
"""

import errno
import io
import os
import signal
import sys
from pathlib import Path

from molex_cli.cli import main

TOLD = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod")
GROWS = ("open", "os.rename", "os.mkdir", "append")  # what a full disk refuses


class Faults:
    """Counts the operations inside a folder; at number `at`, from 1, it kills or raises.

    `how` is `count`, `kill`, `once` (an operation that needs room finds none) or `full` (nor does any after it).
    """

    def __init__(self, folder: Path, how: str = "count", at: int = 0) -> None:
        self.folder, self.how, self.at = folder.resolve(), how, at
        self.operations: list[str] = []

    def watch(self) -> None:
        """Begin; a process that is watched stays so."""
        sys.addaudithook(self._told)
        opened, written = Path.open, os.write
        faults = self

        class Appended(io.FileIO):
            def write(self, content):
                faults.operation(
                    "append", str(self.name), lambda: super(Appended, self).write(content[: len(content) // 2])
                )
                return super().write(content)

        def open_(path, mode="r", buffering=-1, **named):
            return Appended(path, "a") if mode == "ab" and buffering == 0 else opened(path, mode, buffering, **named)

        def write(descriptor, content):
            faults.operation(
                "append",
                os.readlink(f"/proc/self/fd/{descriptor}"),
                lambda: written(descriptor, content[: len(content) // 2]),
            )
            return written(descriptor, content)

        Path.open, os.write = open_, write

    def _told(self, event: str, arguments: tuple) -> None:
        if event in TOLD or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike):
                self.operation(event, os.fsdecode(path))

    def operation(self, event: str, path: str, half=lambda: None) -> None:
        """Count an operation, and do what is to be done at it."""
        if not Path(os.path.abspath(path)).is_relative_to(self.folder) or path.endswith(".lock"):
            return
        if self.how in ("once", "full") and event not in GROWS:
            return
        self.operations.append(f"{event} {Path(path).name}")
        if self.how == "kill" and len(self.operations) == self.at:
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.how == "once" and len(self.operations) == self.at) or (
            self.how == "full" and len(self.operations) >= self.at
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def go(arguments, folder, environment, how="count", at=0):
    """Run a command in this process, in a folder; leave what it showed in `shown` and its operations beside."""
    os.environ.update(environment)
    os.chdir(folder)
    shown = os.open("shown", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(shown, 1)
    os.dup2(shown, 2)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(each, "w", closefd=False)) for each in (1, 2))
    faults = Faults(Path("outputs"), how, at)
    faults.watch()
    try:
        code = main(arguments)
    finally:
        if how != "kill":
            faults.how = "none"
            Path("operations").write_text("\n".join(faults.operations))
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
