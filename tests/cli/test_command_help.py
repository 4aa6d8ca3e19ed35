"""--help: every setting and flag with what it takes, what it is and what it does; examples that are right."""

import dataclasses
import re
import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

from molex_cli.cli import main, saved
from molex_cli.cli.catalogue import parser_of
from molex_cli.cli.registry import commands
from molex_cli.config import command_line, overrides, reference, schema
from molex_cli.methods.base import METHODS
from molex_cli.runtime import terminal


def helped(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def keys_of(sections):
    return {each.key for some in sections for each in some.settings}


@pytest.mark.parametrize("columns", [80, 140])
def test_the_help_of_train_has_every_setting_in_lines_that_fit(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = helped(capsys, "train", "--help", "model=tiny_bert", "method=lora")
    experiment = overrides.checked(command_line.CommandLine(overrides=["model=tiny_bert", "method=lora"]))
    shown_keys = set(re.findall(r"^  ([a-z_.0-9]+)=", shown, re.MULTILINE))
    assert keys_of(reference.sections(experiment)) <= shown_keys
    assert max(map(len, shown.splitlines())) <= min(columns, 120)
    assert "glue/rte" in shown
    assert "schema/" not in shown


def test_a_setting_has_its_choices_value_and_sentence(capsys):
    shown = helped(capsys, "train", "train.schedule=cosine", "--help", "train.schedule")
    assert (
        shown
        == "  train.schedule=cosine  (linear, cosine, constant)\n      Course of the learning rate after the warm-up.\n"
    )


def test_a_part_is_that_of_the_chosen_method(capsys):
    shown = helped(capsys, "train", "method=molex", "--help", "method")
    assert "method.lora.rank=8" in shown
    assert "mola_inverted" in shown  # a method is chosen among these
    assert "train.epochs" not in shown
    assert "method.allocation.shape=inverted" in helped(capsys, "train", "--help", "method.allocation")


def test_a_part_by_another_name_is_found_and_one_that_is_none_hints(capsys):
    assert "train.learning_rate=null" in helped(capsys, "train", "--help", "lr")
    assert main(["train", "--help", "metod"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "molex: --help must be followed by a part of the settings, got metod; did you mean method?"
    assert main(["eval", "--help", "method"]) == 2  # a setting that this command does not read


def test_a_folder_of_ones_own_is_in_the_help(capsys):
    Path("mine/method").mkdir(parents=True)
    Path("mine/method/my_lora.yaml").write_text("defaults: [/schema/method/lora@_here_, _self_]\nrank: 3\n")
    assert "my_lora" in helped(capsys, "train", "-cd", "mine", "--help")
    assert "method.rank=3" in helped(capsys, "train", "-cd", "mine", "method=my_lora", "--help", "method.rank")


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_all_that_it_takes(name, capsys):
    parser = parser_of(name)
    shown = helped(capsys, name, "--help")
    assert shown.startswith(f"usage: molex {name} ")
    assert [each.dest for each in parser.actions() if not each.help] == []
    assert parser.examples, "a command shows how it is called"
    assert all(f"\n  {line}\n" in shown for line in parser.examples)
    own = reference.sections(parser.own) if parser.own else []
    assert [each.key for some in own for each in some.settings if not each.sentence] == []


@pytest.mark.parametrize("line", [line for name in commands() for line in parser_of(name).examples])
def test_every_example_is_a_line_that_the_command_takes(line):
    _, command, *arguments = shlex.split(line.rpartition("| ")[2])
    parser = parser_of(command)
    if command == "train":
        overrides.jobs(command_line.parse([each for each in arguments if each not in ("--help", "method")]))
        return
    options = parser.parse(arguments)
    given = getattr(options, "overrides", [])
    if parser.own is not None:
        assert getattr(saved.read(parser.own, given, parser.reads)[0], "run", True)
    elif parser.reads != ():
        overrides.checked(command_line.CommandLine(overrides=given))


def test_every_setting_has_a_sentence():
    schema.register()
    typed = [(schema.Experiment, ""), *((each, "method") for each in METHODS.values())]
    found = [each for cls, key in typed for some in reference.sections(cls, key) for each in some.settings]
    assert {each.key for each in found if not each.sentence} == set()


class Colour(Enum):
    """Which colour."""

    red = 1
    blue = 2


@dataclass(kw_only=True)
class Base:
    """The base."""

    size: int | None = None
    """How large, and
    where it ends."""
    name: str


@dataclass(kw_only=True)
class Own(Base):
    """More of it."""

    size: int | None = 3
    name: str = "own"
    """Which."""
    colour: Colour = Colour.red
    shares: list[float] = dataclasses.field(default_factory=lambda: [0.5])
    shape: str = dataclasses.field(default="round", metadata={"choices": ("round", "flat")})
    table: dict[str, int] = dataclasses.field(default_factory=dict)


def test_a_setting_is_read_off_its_declaration():
    (section,) = reference.sections(Own, "own")
    assert (section.key, section.sentence) == ("own", "More of it.")
    assert [(each.key, each.value, each.takes, each.sentence) for each in section.settings] == [
        ("own.size", "3", "whole number or null", "How large, and where it ends."),
        ("own.name", "own", "text", "Which."),
        ("own.colour", "red", "red, blue", "Which colour."),
        ("own.shares", "[0.5]", "list of numbers", ""),
        ("own.shape", "round", "round, flat", ""),
        ("own.table", "{}", "keys with values", ""),
    ]
    assert next(reference.sections(Base)).settings[1].value == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        ("", '""'),
        ("a b", "a b"),
        ([1, None], "[1,null]"),
        ({"a": Colour.blue}, "{a: blue}"),
    ],
)
def test_a_value_is_shown_as_it_is_typed(value, shown):
    assert reference.typed(value) == shown


def test_a_long_help_is_paged_in_a_terminal_only(monkeypatch, tmp_path):
    page = tmp_path / "page"
    monkeypatch.setenv("PAGER", f"cat > {page}; true less")
    monkeypatch.setenv("TERM", "xterm")
    assert not terminal.paged("line\n" * 500)
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    assert not terminal.paged("short")
    assert terminal.paged("line\n" * 500)
    assert page.read_text() == "line\n" * 500
    monkeypatch.setenv("PAGER", "no-such-pager")
    assert not terminal.paged("line\n" * 500)


def test_help_of_a_command_can_be_asked_for_first(capsys):
    assert helped(capsys, "help", "merge") == helped(capsys, "merge", "--help")
