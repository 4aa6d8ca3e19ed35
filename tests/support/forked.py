"""Run lists of molex commands, each list in a process forked from one that has imported what takes seconds."""

import json
import os
import sys
import traceback
from glob import glob
from importlib import import_module
from pathlib import Path

HEAVY = ("torch", "transformers.modeling_utils", "transformers.models.auto.modeling_auto", "datasets", "accelerate")


def main() -> None:
    """Take [[tree, folder, [arguments, ...]], ...] as JSON; command i leaves shown-i.txt and code-i.txt there."""
    for module in HEAVY:
        import_module(module)  # not molex_cli: each list has a tree of its own
    for tree, folder, commands in json.loads(sys.argv[1]):
        child = os.fork()
        if not child:
            run_all(tree, folder, commands)
        os.waitpid(child, 0)


def run_all(tree: str, folder: str, commands: list[list[str]]) -> None:
    """Run the commands of one folder in this process, up to one that fails, and end it."""
    sys.path.insert(0, tree)
    os.chdir(folder)
    for i, arguments in enumerate(commands):
        for descriptor, name in ((1, "shown"), (2, "complained")):
            os.dup2(os.open(f"{name}-{i}.txt", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv = ["molex", *(name for given in arguments for name in sorted(glob(given)) or [given])]  # as a shell
        try:
            code = import_module("molex_cli.cli").main()
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        Path(f"code-{i}.txt").write_text(str(code))
        if code:
            break
    os._exit(0)


if __name__ == "__main__":
    main()
