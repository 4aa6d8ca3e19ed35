"""The start of a run and its end by Ctrl-C: a line before seconds of loading, one line and exit code 130."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from house import PACKAGE

from molex_cli.cli import main

RUN = ("train", "experiment=smoke", "method=head", "train.max_steps=6", "train.evaluate_every=3", "log.wandb=disabled")
TELLS_IMPORTS = """\
import sys
class Told:
    def find_spec(self, name, *_):
        if name in ("torch", "transformers", "accelerate"):
            print("imports", name, flush=True)
sys.meta_path.insert(0, Told())
from molex_cli.cli import main
sys.exit(main())
"""
INTERRUPTED_AT = """\
import importlib, os, signal, sys
def interrupted_at(place, calls):
    if place.startswith("import "):
        class Here:
            def find_spec(self, name, *_):
                if name == place.removeprefix("import "):
                    os.kill(os.getpid(), signal.SIGINT)
        return sys.meta_path.insert(0, Here())
    module, _, name = place.partition(":")
    owner = importlib.import_module(module)
    *path, name = name.split(".")
    for each in path:
        owner = getattr(owner, each)
    before, count = getattr(owner, name), iter(range(calls))
    def called(*args, **named):
        if next(count, None) == calls - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return before(*args, **named)
    setattr(owner, name, called)
place, calls = sys.argv.pop(1), int(sys.argv.pop(1))
interrupted_at(place, calls)
from molex_cli.cli import main
sys.exit(main())
"""
PHASES = {  # what is called, and the how manieth call is interrupted; and whether there is a record by then
    "the import of torch": ("import torch", 1, False),
    "an import inside of transformers": ("import transformers.modeling_utils", 1, False),
    "reading the rows": ("molex_cli.data.nli:rows", 2, False),
    "a training step": ("molex_cli.tracking.events:Step.__init__", 2, True),
    "the last evaluation": ("molex_cli.training.evaluation:Scoring._predictions", 2, True),
    "writing the adapter": ("molex_cli.checkpoints.adapter:save", 1, True),
}


def process(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_a_run_says_what_it_loads_before_it_does():
    done = process(TELLS_IMPORTS, *RUN)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["reading builtin/nli, then loading transformers / tiny_bert ...", "imports torch"], done.stderr
    assert done.returncode == 0
    again = process(TELLS_IMPORTS, *RUN)
    assert re.match(r"accuracy [\d.]+\nfinished before  ", again.stdout)
    assert "loading" not in again.stdout
    assert "imports" not in again.stdout


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_is_one_line_and_exit_code_130_and_the_same_command_resumes(phase):
    place, calls, has_record = PHASES[phase]
    done = process(INTERRUPTED_AT, place, str(calls), *RUN)
    assert done.returncode == 130, done.stderr
    said = [
        line for line in (done.stdout + done.stderr).splitlines() if re.search("same command|Ctrl-C|nterrupt", line)
    ]
    assert len(said) == 1, said
    assert re.search(r"the same command (starts or )?resumes it$", said[0])
    assert "Traceback" not in done.stderr
    found = [json.loads(path.read_text())["status"] for path in Path("outputs").glob("*/record.json")]
    assert found == (["interrupted"] if has_record else [])
    if has_record and calls == 2:
        assert process("from molex_cli.cli import main; main()", *RUN).returncode == 0
        (path,) = Path("outputs").glob("*/record.json")
        assert json.loads(path.read_text())["status"] == "finished"


def next_commands():
    """Return the commands that `make demo` runs and prints, as they stand in the Makefile."""
    lines = (PACKAGE.parent / "Makefile").read_text().partition("\ndemo:")[2].partition("\n\n")[0].splitlines()
    (ran,) = [line.strip() for line in lines if line.startswith("\t$(BIN)")]
    printed = [line.strip().removeprefix('@echo "').removesuffix('"') for line in lines if '@echo "  ' in line]
    return [line.strip().replace("$(BIN)/", "").split() for line in (ran, *printed)]


def test_the_commands_that_the_demo_prints_run_as_they_stand(capfd):
    first, second, compare, page, look = next_commands()
    short = ["experiment=smoke", "train.max_steps=2", "log.wandb=disabled"]
    for tool, *arguments in (first, second):
        assert tool == "molex"
        assert main([*arguments, *short]) == 0
    assert compare[0] == page[0] == "molex"
    capfd.readouterr()
    assert main(compare[1:]) == 0
    shown = capfd.readouterr().out
    assert "MoLA-▽" in shown
    assert "LoRA" in shown
    assert main(page[1:]) == 0
    tool, *arguments = look
    address = arguments[-1].replace("$(CURDIR)", str(Path.cwd()))
    assert Path(address.removeprefix("file://")).is_file()
    opened = subprocess.run(
        [sys.executable, *arguments[:-1], address],
        env={**os.environ, "BROWSER": "echo"},
        capture_output=True,
        text=True,
    )
    assert (tool, opened.stdout.splitlines()[0]) == ("python", address)
