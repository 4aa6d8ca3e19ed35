"""The `molex` command: it imports only what the chosen subcommand needs."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from molex_cli import __version__
from molex_cli.errors import MolexError

COMMANDS = {
    "train": "fine-tune one model with one method on one task, and record the run; -m sweeps",
    "plan": "experts per layer, exact parameters and FLOPs of a method on a model; loads no weights",
    "compare": "runs to an honest table: mean ± sd over seeds, paired tests, what is not matched; md, csv, json, latex",
    "diff": "in what two runs differ: settings, data, versions, cost, scores",
    "eval": "score a saved run on any task or split, with mistakes or noise in its input if you like",
    "predict": "ask a saved run about lines of a file or of standard input",
    "export": "a LoRA run as an adapter folder that PEFT opens",
    "import": "a LoRA adapter that PEFT wrote, as a saved run",
    "merge": "a run as one Hugging Face model, its updates added to the weights",
    "probe": "what each layer of a saved run knows of a task, by a linear model on its output",
    "list": "what there is: tasks with sizes, metrics and places, methods, models",
    "experts": "how alike the experts of each layer are, how they are used, what is lost without them",
    "sync": "send to W&B the runs that were logged offline",
    "wandb-view": "save a W&B workspace of arms and seeds: scores, cost, routing",
    "bench": "step time and memory as ratios to BitFit, PEFT's LoRA and a loop over experts; --inference: of answering",
}

HELP = """\
molex - trustworthy comparisons of parameter-efficient fine-tuning methods

usage: molex COMMAND [key=value ...] [flags]

{commands}

examples
  molex train                                          the default run: about two minutes, no network
  molex train method=mola_inverted task=glue/rte       one run on a task
  molex train -m method=lora,mola_inverted seed=0,1,2  a sweep
  molex plan model=llama2_7b method=mola_triangle      what a method costs
  molex train --help                                   every setting and its choices

tab completion for bash: eval "$(molex -sc install=bash)"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for a mistake of the user's, 130 for Ctrl-C."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        return _command("completion")(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0
    if argv[0] in ("-V", "--version", "version"):
        print(f"molex {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        from molex_cli.errors import nearest

        return _complain([f"command must be one of {', '.join(COMMANDS)}, got {argv[0]}; {nearest(argv[0], COMMANDS)}"])
    try:
        return _command(argv[0])(argv[1:])
    except MolexError as error:
        return _complain(str(error).splitlines())
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def help_text() -> str:
    """Return what `molex --help` prints."""
    return HELP.format(commands="\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items()))


def _command(name: str) -> Callable[[list[str]], int]:
    # A module called list or eval would hide the built-in function of that name in this package; import is a keyword.
    module = {"list": "listing", "eval": "evaluate", "import": "importing"}.get(name, name).replace("-", "_")
    command: Callable[[list[str]], int] = import_module(f"molex_cli.cli.{module}").main
    return command


def _complain(lines: Sequence[str]) -> int:
    for line in lines:
        print(f"molex: {line}", file=sys.stderr)
    return 2
