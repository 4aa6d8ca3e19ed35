"""Runs molex commands, each in a process forked from this one, which has imported what takes seconds.

It reads a line of JSON for each command and answers with one: exit code, seconds, and whether it had to be stopped.
"""

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import time
import traceback
from importlib import import_module
from typing import Any

HEAVY = (
    "scipy.stats", "matplotlib.pyplot", "sklearn.linear_model", "peft", "pyarrow.parquet", "rich.table", "wandb",
)  # fmt: skip
FAMILIES = ("bert",)
ROOM = 4 << 30  # bytes of memory beyond what the imports take
FILE = 256 << 20  # bytes of a file


def main() -> None:
    """Answer until standard input ends; nothing is computed here, since threads do not survive a fork."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _import_all()
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), file=answers)
    os._exit(0)  # nothing here needs to be tidied


def _import_all() -> None:
    import molex_cli

    for module in pkgutil.walk_packages(molex_cli.__path__, "molex_cli."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in (*HEAVY, *(f"transformers.models.{family}.modeling_{family}" for family in FAMILIES)):
        import_module(name)
    gc.collect()
    gc.freeze()
    atexit._clear()  # what this process has to tidy is not a command's to tidy


def _answer(wanted: dict[str, Any]) -> dict[str, Any]:
    """Run one command; after its time it gets SIGTERM, and SIGKILL if it has not ended in as long again."""
    start = time.monotonic()
    child = os.fork()
    if not child:
        try:
            _run(wanted)
        finally:
            os._exit(70)  # whatever goes wrong before the command begins: there is one server
    ended = os.pidfd_open(child)
    stopped = []
    for name in (signal.SIGTERM, signal.SIGKILL):
        if select.select([ended], [], [], wanted["seconds"])[0]:
            break
        stopped.append(name.name)
        os.killpg(child, name)
    _, status, used = os.wait4(child, 0)
    os.close(ended)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it may have left running
    seconds, busy = time.monotonic() - start, used.ru_utime + used.ru_stime
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "busy": busy, "stopped": stopped}


def _run(wanted: dict[str, Any]) -> None:
    """Be the command, as if it had been started by itself, and end this process."""
    os.setsid()
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted["folder"])
    for descriptor, name, how in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_WRONLY), (2, "stderr", os.O_WRONLY)):
        os.dup2(os.open(wanted[name], how), descriptor)
    _limit()
    sys.argv = ["molex", *wanted["arguments"]]
    if wanted["before"]:
        module, _, name = wanted["before"].partition(":")
        getattr(import_module(module), name)()
    sys.stdin = os.fdopen(0, "r")
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    try:
        code = import_module("molex_cli.cli").main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _limit() -> None:
    """Bound memory and files, so that a huge number cannot take the machine."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
