"""The `molex` command: it imports only what the chosen subcommand needs.

A command is one file in this folder, which is found by itself; nothing else is edited to add one. It is called as its
file: `score_range.py` is `molex score-range`, and a name that Python has taken ends in an underscore, as in `list_.py`.
The file has a string `SUMMARY`, its line in `molex --help`, and a function `main(argv)`, which states its arguments
with `parser.Parser`, prints, and returns the exit code. `SUMMARY` is read from the source, so what is heavy is imported
inside `main` and costs the other commands nothing. A file without `SUMMARY` is no command: others use it.
"""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, or complete one, and return the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        from molex_cli.cli import completion

        return completion.main(argv)
    from molex_cli.cli import dispatch

    return dispatch.main(argv, is_process=arguments is None)
