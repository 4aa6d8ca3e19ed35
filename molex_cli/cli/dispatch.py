"""From the name of a command to what it returns: its module is imported, and what goes wrong is one line."""

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from molex_cli import __version__
from molex_cli.cli import registry
from molex_cli.errors import ConfigError, MolexError, nearest, shortened
from molex_cli.models.hub.connection import require_endpoint
from molex_cli.records.disk import disk_errors_told
from molex_cli.records.secrets import hidden
from molex_cli.runtime.paths import know_user
from molex_cli.runtime.signals import terminated_as_interrupt
from molex_cli.runtime.streams import safe_streams, say, without_news_of_libraries

HELP = """\
molex - trustworthy comparisons of parameter-efficient fine-tuning methods

usage: molex COMMAND [key=value ...] [flags]

{commands}

examples
  molex train                                          the default run: about two minutes, no network
  molex train method=mola_inverted task=glue/rte       one run on a task
  molex train -m method=lora,mola_inverted seed=0,1,2  a sweep
  molex plan model=llama2_7b method=mola_triangle      what a method costs
  molex train --help                                   every setting, what it takes and what it does

molex COMMAND --help has all that a command takes; molex train --help method shows a part
tab completion: eval "$(molex -sc install=bash)"; zsh and fish alike
"""


def main(argv: list[str], *, is_process: bool = False) -> int:
    """Run a command and return its exit code: 0, 2 for a mistake of the user's, 130 for Ctrl-C and SIGTERM.

    `is_process` says that the process ends with the command.
    """
    if is_process:
        without_news_of_libraries()
    try:
        # A run is worth more than its console. What is printed meets a full disk when it is flushed, at the end.
        with terminated_as_interrupt(), disk_errors_told(), safe_streams(outlive_readers=_trains(argv)):
            return _answer(argv)
    except BrokenPipeError:  # who read our output has left
        return 141
    except MolexError as error:
        with safe_streams(outlive_readers=True):
            return _complain(error.problems if isinstance(error, ConfigError) else [str(error)])
    except KeyboardInterrupt as error:
        if is_process:  # whoever asks again while the process ends gets no traceback
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        exec("")  # what is raised inside an exec, as dataclasses do, else makes Python end by the signal: no code 130
        if not getattr(error, "__notes__", None):  # else its record and its last line already say so
            with safe_streams(outlive_readers=True):
                _complain([_ended_by(str(error) or "Ctrl-C", argv)])
        return 130


def _answer(argv: list[str]) -> int:
    if argv[:1] == ["help"] and len(argv) > 1:
        argv = [argv[1], "--help", *argv[2:]]
    if not argv or argv[0] in ("-h", "--help", "help"):
        say(overview().rstrip())
        return 0
    if argv[0] in ("-V", "--version", "version"):
        say(f"molex {__version__}")
        return 0
    module = registry.module_of(argv[0])
    if module is None:
        return _complain([_no_command(argv[0])])
    know_user()
    if argv[0] != "doctor":  # which says it in a line of its own
        require_endpoint()
    code: int = import_module(module).main(argv[1:])
    return code


def overview() -> str:
    """Return what `molex --help` prints."""
    known = registry.commands()
    width = max(map(len, known))
    return HELP.format(commands="\n".join(f"  {name:<{width}} {text}" for name, text in known.items()))


def _no_command(name: str) -> str:
    known = registry.commands()
    return f"command must be one of {', '.join(known)}, got {name}; {nearest(name, known)}"


def _ended_by(signal: str, argv: Sequence[str]) -> str:
    way_out = "; the same command starts or resumes it" if _trains(argv) else ""
    return f"{signal} ended {' '.join(argv[:1]) or 'molex'}{way_out}"


def _trains(argv: Sequence[str]) -> bool:
    return list(argv[:1]) in (["train"], ["study"])


def _complain(lines: Sequence[str]) -> int:
    for line in lines:
        say(f"molex: {hidden(shortened(line))}".replace("\n", "\\n"), file=sys.stderr)
    return 2
