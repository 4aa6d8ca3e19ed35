"""Every command that the documentation prints is understood as printed; those of before still are."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from molex_cli.cli import parser, registry, train
from molex_cli.config import command_line, overrides, schema

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "outputs/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
RUN_AS_PRINTED = "adding.md"  # its commands use files that it prints; tests/test_adding.py runs them
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
MISTAKES = {"molex train method=mola_inverted method.top_k=3 train.epoch=1"}  # shown for what they are answered

# What README.md had when people began to use it.
BEFORE = """
molex train
molex train method=mola_inverted task=glue/rte seed=1
molex train -m method=lora,mola_inverted seed=0,1,2
molex train -m method=lora,mola_inverted seed=0,1,2 hardware=slurm
molex train hardware=ddp
molex compare outputs/
molex compare outputs/ --html report.html
molex compare outputs/ --tune train.learning_rate --tuning-seeds 1000,1001
molex study study.yaml
molex compare outputs/ --figure differences.pdf
molex diff outputs/ONE outputs/OTHER
molex experts outputs/NAME --ablate layers
molex sync
molex train --cfg job
molex train --help
molex plan model=llama2_7b method=mola_triangle
molex plan method=mola_inverted --match lora:rank=64
molex plan model=llama2_7b method=lora --fit 24GB
molex bench --dropout 0.05 0
molex bench --operations model=llama2_7b
molex bench --inference --plot cost.svg
molex train method=molex method.inner=bitfit method.level=token
molex cache
molex list tasks
molex eval run=outputs/NAME task=glue/rte split=validation
molex probe run=outputs/NAME
molex predict run=outputs/NAME --file new.csv
molex merge outputs/NAME --output DIR
molex train task=files task.files.train=train.csv task.files.validation=dev.csv 'task.columns=[question,answer]'
""".strip().splitlines()


def printed(page: Path) -> list[str]:
    """Return the commands in a page's code blocks, each in a line; what is left open by `...` is left out."""
    blocks = "".join(FENCED.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    lines = (line.strip().removeprefix("$ ") for line in blocks.splitlines())
    lines = (re.sub(r"\[settings of the line\]|\s\.\.\.(?=\s|$)|(?<=RUN)\.\.\.", "", line) for line in lines)
    return [line for line in lines if re.match(r"molex [a-z-]+\b(?! must )", line) and line not in MISTAKES]


COMMANDS = {f"{page.name}: {line}": line for page in PAGES if page.name != RUN_AS_PRINTED for line in printed(page)}


class UnderstoodError(Exception):
    """Raised where a command would begin to work."""


def understand(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command as it would be, up to where it begins to work; raise what is wrong with it."""
    monkeypatch.setattr(parser.Parser, "parse_intermixed_args", understood(parser.Parser.parse_intermixed_args))
    _, name, *arguments = shlex.split(line, comments=True)
    module = registry.module_of(name)
    assert module is not None, f"no command {name}"
    if name == "train" and "--help" not in arguments:
        schema.register()
        overrides.jobs(command_line.parse(train._budget(arguments)[1]))
        return
    with pytest.raises((UnderstoodError, SystemExit)):  # --help ends in a SystemExit
        import_module(module).main(arguments)


def understood(parse):
    """Return a function that parses and then raises UnderstoodError."""

    def instead(self, arguments):
        options = parse(self, arguments)
        settings = getattr(options, "overrides", [])
        if settings and self.prog.split()[-1] in ("plan", "bench"):
            overrides.jobs(command_line.CommandLine(overrides=settings, multirun=bool(getattr(options, "match", None))))
        raise UnderstoodError

    return instead


def test_pages_print_commands():
    assert len(COMMANDS) > 80


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_a_printed_command_is_understood(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    understand(line, monkeypatch)


@pytest.mark.parametrize("line", BEFORE)
def test_a_command_of_before_is_understood(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    understand(line, monkeypatch)
