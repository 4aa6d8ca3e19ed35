"""`~` is the home folder wherever a path is typed: settings, YAML files, flags."""

import getpass
import json
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from molex_cli.cli import main
from molex_cli.config import command_line, overrides
from molex_cli.config.parsing import parsed
from molex_cli.config.paths import default_data_dir
from molex_cli.config.sweeps import values_of
from molex_cli.models.loading import load
from molex_cli.runtime import paths, streams
from molex_cli.runtime.paths import default_cache_dir

ROWS = "text,label\n" + "".join(f"x{i},{'yes' if i % 2 else 'no'}\n" for i in range(12))
TASK = """\
defaults: [/schema/task@_here_, _self_]
name: mine
columns: [text]
files: {train: ~/train.csv, validation: ~/train.csv}
"""
TRAIN = ["train", "experiment=smoke", "method=head", "train.max_steps=1", "hardware.threads=1"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a home folder of the test's own, which is not the working directory."""
    folder = tmp_path / "home"
    (folder / "conf" / "task").mkdir(parents=True)
    (folder / "train.csv").write_text(ROWS)
    (folder / "conf" / "task" / "mine.yaml").write_text(TASK)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_a_run_reads_and_writes_under_the_home_folder_and_is_opened_there(home, capsys):
    places = ["output_dir=~/outputs", "cache_dir=~/cache"]
    assert main([*TRAIN, "-cd", "~/conf", "task=mine", *places]) == 0
    (run,) = (home / "outputs").glob("mine-*")
    settings = json.loads((run / "record.json").read_text())["settings"]
    assert settings["task"]["files"]["train"] == "~/train.csv"  # another machine has another home
    (home / "lines.txt").write_text("x1\n")
    assert main(["predict", f"run=~/outputs/{run.name}", "--file=~/lines.txt"]) == 0
    assert main(["compare", "~/outputs", "--output=~/table.txt"]) == 0
    assert main(["merge", f"~/outputs/{run.name}", "--output=~/merged"]) == 0
    assert (home / "table.txt").exists()
    model = overrides.checked(
        command_line.CommandLine(overrides=["experiment=smoke", "model.random=false", "model.folder=~/merged"])
    ).model
    model.config = {}
    assert load(model, 2, seed=0).num_layers == 4
    assert [path.name for path in Path.cwd().iterdir()] == ["home"], "something was written to a folder called ~"


def test_data_and_cache_folders_of_the_environment_may_have_a_tilde(home, monkeypatch):
    monkeypatch.setenv("MOLEX_DATA", "~/data")
    monkeypatch.setenv("MOLEX_CACHE", "~/cache")
    assert default_data_dir() == str(home / "data")
    assert default_cache_dir() == home / "cache"


def test_hydra_gets_the_folder_too(home, capsys):
    assert main(["train", "experiment=smoke", "-cd", "~/conf", "task=mine", "--cfg", "job"]) == 0
    assert "~/train.csv" in capsys.readouterr().out


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """Let the user be one that no password file knows, without HOME."""

    def unknown(*_):
        raise KeyError("getpwuid(): uid not found: 12345678")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for cached in (streams.say_once, paths._own_temporary):
        cached.cache_clear()
    for name in ("HOME", "MOLEX_CACHE", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    yield
    for cached in (streams.say_once, paths._own_temporary):
        cached.cache_clear()


def test_without_a_home_the_cache_lies_in_the_temporary_folder_and_a_line_says_so(homeless, tmp_path, capsys):
    folder = default_cache_dir()
    assert folder == default_cache_dir()
    assert folder.is_relative_to(tmp_path / f"molex-{os.getuid()}")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: HOME must be the home folder, got none; ")
    assert "MOLEX_CACHE" in line


def test_a_cache_folder_that_cannot_be_written_is_replaced_and_a_line_says_so(homeless, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith("/proc"))
    assert default_cache_dir().is_relative_to(tmp_path)
    assert capsys.readouterr().err.startswith("note: /proc/.cache/molex must be writable for the cache, got")


def test_a_user_without_home_and_name_trains(homeless, capsys):
    assert main([*TRAIN]) == 0
    assert getpass.getuser() == f"user{os.getuid()}"
    assert main(["compare", "outputs"]) == 0


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("data_dir=~/a b/c", ["~/a b/c"]),
        ("data_dir=choice(~/a, ~/b)", ["~/a", "~/b"]),
        ("data_dir=~/a(1)/b,~/c", ["~/a(1)/b", "~/c"]),
        ("log.tags=[~/a , ~/b]", [["~/a", "~/b"]]),
        ("""task.language.prompt='Rate:~5 words'""", ["Rate:~5 words"]),
        ("task.language.prompt=\"a, [~5] 'b'\"", ["a, [~5] 'b'"]),
        (r"""task.language.prompt='it\'s,~5'""", ["it's,~5"]),
    ],
)
def test_a_tilde_is_quoted_where_a_value_begins_and_left_inside_quotes(typed, values):
    (override,), problems = parsed([typed])
    assert (values_of(override), problems) == (values, [])


@pytest.mark.parametrize("given", ["hydra.searchpath=[~/conf]", "hydra.searchpath=['~/conf']"])
def test_the_search_path_of_the_line_is_under_the_home_folder(home, given):
    made, line = overrides.jobs(command_line.parse(["experiment=smoke", given, "task=mine"]))
    assert made[0].experiment.task.name == "mine"
    assert line.searched == [home / "conf"]
    assert main(["train", *line.overrides, "--cfg", "job"]) == 0


def test_the_search_path_of_a_file_is_under_the_home_folder(home, tmp_path):
    shipped = command_line.conf_dir()
    content = (shipped / "config.yaml").read_text()
    assert "\nhydra:\n" in content
    own = content.replace("\nhydra:\n", f"\nhydra:\n  searchpath: ['file://{shipped}', ~/conf]\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.yaml").write_text(own)
    made, line = overrides.jobs(command_line.parse(["-cp", "own", "experiment=smoke", "task=mine"]))
    assert made[0].experiment.task.name == "mine"
    assert line.searched == [shipped, home / "conf"]
