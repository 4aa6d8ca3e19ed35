"""YAML files of one's own: whatever is in them, what is wrong is one line with the file and its line."""

import os
import re
from pathlib import Path

import pytest

from molex_cli.cli import main
from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError

HEAD = "defaults: [/schema/task@_here_, _self_]\nname: own\nfiles: {train: x.csv, validation: x.csv}\ncolumns: [text]\n"
BOMB = "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
MERGES = "".join(f"k{i}: &k{i} {{<<: [{','.join([f'*k{i - 1}'] * 4)}]}}\n" for i in range(1, 12))
FAULTS = {
    "open bracket": ("columns: [a", "must be YAML, got: expected"),
    "open brace": ("hub: {a: b", "must be YAML"),
    "tab": ("hub:\n\tpath: x", "must be YAML, got: found character '\\t'"),
    "key twice": ("label: a\nlabel: b", "line 6, must have each key once, got label in line 5 too"),
    "key twice below": ("language: {prompt: a, prompt: b}", "line 5, must have each key once, got prompt"),
    "number twice": ("where: {1: a, 1: b}", "line 5, must have each key once, got 1"),
    "latin-1": (b"label: \xe9", "line 5, must be UTF-8, got byte 0xe9; save it as UTF-8"),
    "NUL": ("label: a\0b", "line 5, must be text, got the character '\\x00'"),
    "bell": ("label: a\x07b", "line 5, must be text, got the character"),
    "lone surrogate": ('label: "\\ud800"', "line 5, must be text, got half of a character"),
    "no such character": ('label: "\\UFFFFFFFF"', "line 5, must be YAML"),
    "open variable": ("label: ${", "line 5, must have a whole ${KEY} or none, got ${"),
    "empty variable": ("label: ${}", "line 5, must have a whole ${KEY}"),
    "deep variable": ("label: '" + "${a:" * 900 + "'", "line 5, must have a whole ${KEY}"),
    "long variable": ("label: " + "${a}" * 2000, "line 5, must have a whole ${KEY}"),
    "null as a key": ("~: x", "line 5, must have texts as keys, got ~"),
    "null as a key below": ("where: {~: x}", "line 5, must have texts as keys, got ~"),
    "nothing as a key": ("?\n", "line 5, must have texts as keys, got nothing"),
    "list as a key": ("? [a, b]\n: x", "line 5, must have texts as keys, got a list"),
    "section as a key": ("? {a: b}\n: x", "line 5, must have texts as keys, got a section"),
    "python": ("label: !!python/object/apply:os.system [touch x]", "line 5, must be plain YAML, got the tag !!python/"),
    "tag of one's own": ("label: !foo x", "line 5, must be plain YAML, got the tag !foo"),
    "set": ("where: !!set {a, b}", "line 5, must be plain YAML, got the tag !!set"),
    "timestamp": ("label: !!timestamp 2001-01-01", "line 5, must be plain YAML, got the tag !!timestamp"),
    "binary": ("label: !!binary YQ==", "line 5, must be plain YAML, got the tag !!binary"),
    "no number": ("seed: !!int x", "line 5, must have a number, got x"),
    "number of 5,000 digits": ("seed: " + "9" * 5000, "line 5, must have a number"),
    "no anchor": ("label: *nope", "line 5, must be YAML, got: found undefined alias"),
    "alias of itself": ("where: &x {a: *x}", "line 5, must come to an end"),
    "list of itself": ("labels: &x [*x, a]", "line 5, must come to an end"),
    "merge of no section": ("where: {<<: 3}", "line 5, must be YAML, got: expected a mapping"),
    "bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n" + BOMB,
        "must have at most 4,000 values with its aliases written out",
    ),
    "bomb of merges": (
        "k0: &k0 {x: 1, y: 2}\n" + MERGES,
        "must have at most 4,000 values with its aliases written out",
    ),
    "deep lists": ("labels: " + "[" * 400 + "]" * 400, "line 5, must be at most 32 sections or lists deep"),
    "deep sections": ("where: " + "{a: " * 200 + "x" + "}" * 200, "line 5, must be at most 32 sections or lists deep"),
    "long": ("labels:\n" + "- a\n" * 5000, "must have at most 4,000 values"),
    "large": ("label: " + "x" * 200_000, "must have at most 131,072 bytes"),
    "long key": ("k" * 2000 + ": x", "must be YAML"),
    "two documents": ("---\nlabel: b", "line 5, must be YAML, got: but found another document"),
    "percent": ("label: %x", "line 5, must be YAML"),
    "open quote": ("label: 'x", "must be YAML, got: found unexpected end of stream"),
    "colon": ("label: a: b", "line 5, must be YAML, got: mapping values are not allowed here"),
    "indented": (" label: a", "line 5, must be YAML"),
    "no setting": ("nope: 3", "Key 'nope' not in 'Task' (", "line 5)"),
    "no number of beams": ("language:\n  beams: x", "(", "line 6)"),
    "two words of a package": ("# @package a b", "line 1, must be # @package NAME where it begins with # @"),
    "no package": ("# @package", "line 1, must be # @package NAME where it begins with # @"),
    "a list": ("- a\n- b", "line 1, must begin settings, KEY: VALUE, got a list"),
    "a word": ("hello", "line 1, must begin settings, KEY: VALUE, got hello"),
    "a number": ("3", "line 1, must begin settings, KEY: VALUE, got 3"),
    **{
        f"defaults: {text}": (f"defaults: {text}", "line 1, must have ")
        for text in (
            *("3", "{a: b}", "", "[1]", "[null]", "[[x]]", "['']", "[{}]", "[{a: b, c: d}]", "[{a: {b: c}}]"),
            *("[{/model: 3}]", "[{true: x}]", "[{1: x}]"),
        )
    },
    "defaults that go round": ("defaults: [own]", "must come to an end, got files that name each other"),
    "nothing": ("", "task.name"),
    "only a comment": ("# nothing", "task.name"),
}
WHOLE = {"two words of a package", "no package", "a list", "a word", "a number", "nothing", "only a comment"}


def own_file(content: bytes | str, name: str = "task/own.yaml") -> Path:
    path = Path("mine", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(capsys, *arguments):
    """Run a command that must be refused, and return its lines."""
    assert main([*arguments]) == 2
    shown, err = capsys.readouterr()
    assert (shown, Path("outputs").exists()) == ("", False)
    lines = err.splitlines()
    assert lines
    assert all(re.match(r"molex: \S", line) for line in lines), err
    return lines


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_file_is_refused_in_one_line_with_its_place(name, capsys):
    content, *said = FAULTS[name]
    head = "" if name in WHOLE or name.startswith("defaults") else HEAD
    if name.startswith("two words") or name == "no package":
        content += "\n" + HEAD
    own_file(head.encode() + content if isinstance(content, bytes) else f"{head}{content}\n")
    (line,) = refused(capsys, "train", "-cd", "mine", "experiment=smoke", "task=own")
    assert all(each in line for each in said), line
    if "line" in said[0]:
        assert "mine/task/own.yaml, line " in line


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["-m", "seed=0,1"]], ids=" ".join)
def test_a_faulty_file_is_refused_wherever_it_is_read(arguments, capsys):
    own_file("columns: [a\n")
    said = "mine/task/own.yaml, line 2, must be YAML"
    assert said in refused(capsys, "train", "-cd", "mine", "experiment=smoke", "task=own", *arguments)[0]
    assert said in refused(capsys, "plan", f"hydra.searchpath=[{Path('mine').resolve()}]", "task=own")[0]


def test_a_faulty_first_file_is_refused(capsys):
    own_file(b"\xff\n", "config.yaml")
    assert "mine/config.yaml, line 1, must be UTF-8" in refused(capsys, "train", "-cp", "mine")[0]
    own_file("hydra: {searchpath: [~/x, ${]}\n", "config.yaml")
    assert "mine/config.yaml, line 1, must be YAML" in refused(capsys, "train", "-cp", "mine")[0]


def test_what_is_no_file_is_no_choice(capsys):
    Path("mine/task/own.yaml").mkdir(parents=True)
    os.mkfifo("mine/task/pipe.yaml")
    for name in ("own", "pipe"):
        assert "task must be one of the files" in refused(capsys, "train", "-cd", "mine", f"task={name}")[0]


def test_a_file_that_cannot_be_read_is_refused(capsys, monkeypatch):
    own_file(HEAD)

    def unreadable(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    (line,) = refused(capsys, "train", "-cd", "mine", "experiment=smoke", "task=own")
    assert line.endswith("must be a file of settings, got one that cannot be read (Permission denied)")


def test_anchors_merges_and_variables_are_taken_as_they_are():
    own_file(HEAD + "where: &w {a: b}\nhub: {path: x, subset: '${task.name}'}\nlanguage: {prompt: '\\${x}'}\n")
    task = overrides.checked(command_line.parse(["-cd", "mine", "experiment=smoke", "task=own"])).task
    assert (task.where, task.hub.subset) == ({"a": "b"}, "own")


def test_variables_that_double_each_other_come_to_an_end(capsys):
    names = "".join(f" k{i + 1}: ${{task.where.k{i}}}${{task.where.k{i}}}\n" for i in range(40))
    own_file(f"{HEAD}where:\n k0: {'x' * 50}\n{names}")
    (line,) = refused(capsys, "train", "-cd", "mine", "experiment=smoke", "task=own")
    assert "must come to an end" in line


@pytest.mark.parametrize(
    "body", ["null", "{launcher: null}", "{launcher: {_target_: os.system}}", "{sweeper: {_target_: a.b}}"]
)
def test_no_part_of_hydras_is_another_than_its_own(body, capsys):
    own_file(f"# @package _global_\nhydra: {body}\n", "experiment/own.yaml")
    refused(capsys, "train", "-cd", "mine", "experiment=own", "-m", "seed=0,1")


@pytest.mark.parametrize(
    "sweep",
    [
        *("seed=range(0,1e9)", "seed=range(0,1000000000)", "seed=range(0,1,1e-300)", "seed=range(0,inf)"),
        *("seed=range(0,nan)", "method=range(0,1e9)", "seed=shuffle(range(0,1e9))", "seed=int(range(0,1e9))"),
    ],
)
def test_a_sweep_has_an_end(sweep):
    with pytest.raises(
        ConfigError, match=r"must have at most 5,000 values, got |must be a range between finite numbers"
    ):
        overrides.jobs(command_line.parse(["-m", "experiment=smoke", sweep]))


def test_a_product_of_sweeps_says_how_many_jobs_it_asks_for():
    given = ["-m", "experiment=smoke", "seed=range(0,100)", "train.batch_size=range(1,100)"]
    with pytest.raises(ConfigError) as error:
        overrides.jobs(command_line.parse(given))
    assert "at most 5,000 jobs, got 9,900 (100 of seed x 99 of train.batch_size)" in str(error.value)


def test_the_sweep_of_a_file_has_an_end_too(capsys):
    own_file("# @package _global_\nhydra: {sweeper: {params: {seed: 'range(0,1e9)'}}}\n", "experiment/own.yaml")
    assert "must have at most 5,000 values" in refused(capsys, "train", "-cd", "mine", "experiment=own", "-m")[0]
