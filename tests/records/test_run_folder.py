"""A path that is not the run that a command needs: each command says in one line what it is, before torch loads."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.made_records import leave

from molex_cli.cli import main
from molex_cli.errors import CheckpointError, ConfigError, MethodError, RecordError
from molex_cli.records import run_folder
from molex_cli.records.folders import slug_of

COMMANDS = {
    "merge": ["merge", "PATH", "--output", "new"],
    "export": ["export", "PATH", "--output", "new"],
    "predict": ["predict", "PATH"],
    "probe": ["probe", "PATH"],
    "experts": ["experts", "PATH"],
    "diff": ["diff", "PATH", "outputs/whole"],
}
PATHS = {
    "nowhere": "nowhere does not exist; name the folder of a run, such as outputs/NAME",
    "outputs/wholee": "outputs/wholee does not exist; did you mean outputs/whole?",
    "empty": "empty is no run: it has no record.json; name the folder of a run, such as outputs/NAME",
    "outputs": "outputs is a folder of 3 runs, where a run itself is needed; name one, such as outputs/bare",
    "rows.csv": "rows.csv is a file, and neither a run nor an adapter; name the folder of a run, such as outputs/NAME",
}


@pytest.fixture
def outputs():
    """Leave a run that is whole, one that has just begun, one that kept nothing, and what is no run."""
    for name, status in (("whole", "finished"), ("begun", "interrupted"), ("bare", "finished")):
        leave(Path("outputs", name), status=status, settings={"keep": "none"})
    Path("outputs/whole/adapter-last.safetensors").write_bytes(b"")
    Path("empty").mkdir()
    Path("rows.csv").write_text("a,b\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["", "run="])
def test_what_is_no_run_is_said_in_a_sentence(command, path, key, outputs, capsys):
    assert main([each.replace("PATH", f"{key}{path}") for each in COMMANDS[command]]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"molex: {PATHS[path]}\n")


@pytest.mark.parametrize("command", ["merge", "export", "predict", "probe"])
def test_a_run_without_an_adapter_says_why(command, outputs, capsys):
    for name, says in {
        "begun": "has no adapter yet: its run is interrupted; the command that began it resumes it",
        "bare": "has no adapter: keep=none left none; train it again with keep=both resume=never",
    }.items():
        assert main([each.replace("PATH", f"outputs/{name}") for each in COMMANDS[command]]) == 2
        assert capsys.readouterr().err == f"molex: outputs/{name} {says}\n"


def test_the_adapter_of_the_other_evaluation_is_named(outputs):
    with pytest.raises(CheckpointError, match="no adapter of its best evaluation; choose which=last"):
        run_folder.adapter_of(Path("outputs/whole"), "best")
    assert run_folder.adapter_of(Path("outputs/whole"), "last") == Path("outputs/whole/adapter-last.safetensors")
    with pytest.raises(ConfigError, match="which must be last or best, got first"):
        run_folder.adapter_of(Path("outputs/whole"), "first")
    with pytest.raises(CheckpointError, match="where its folder is needed; name outputs/whole"):
        run_folder.adapter_of(Path("outputs/whole/record.json"), "last")
    with pytest.raises(RecordError, match="neither a run nor an adapter"):
        run_folder.whole_record(Path("rows.csv"))
    assert run_folder.whole_record(Path("outputs/whole/record.json")).status == "finished"


@pytest.mark.parametrize("command", ["merge", "export"])
def test_a_run_with_routers_is_refused_before_it_is_opened(command, outputs, capsys):
    leave(Path("routed"), "mola", routing={"0": {"balance": 1.0}})
    Path("routed/adapter-last.safetensors").write_bytes(b"never read")
    assert main([command, "routed", "--output", "new"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"molex: molex {command} must be given a run ")
    assert "got mola in routed; " in line
    Path("routed/record.json").write_text("{")  # then the adapter itself decides
    run_folder.require_unrouted(Path("routed/adapter-last.safetensors"), "rule", "way out")


def test_an_unrouted_run_passes(outputs):
    run_folder.require_unrouted(Path("outputs/whole/adapter-last.safetensors"), "rule", "way out")
    run_folder.require_unrouted(Path("empty/adapter-last.safetensors"), "rule", "way out")
    leave(Path("routed"), "mola", routing={"0": {"balance": 1.0}})
    with pytest.raises(MethodError, match="rule, got mola in routed; way out"):
        run_folder.require_unrouted(Path("routed/adapter-last.safetensors"), "rule", "way out")


def test_none_of_it_loads_torch(outputs):
    code = "import sys; from molex_cli.cli import main\n"
    for arguments in COMMANDS.values():
        code += f"assert main({[each.replace('PATH', 'outputs') for each in arguments]}) == 2\n"
    code += "assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_its_run_shows_how_it_is_called(command, capsys):
    assert main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"molex {command} needs " in line or "a run must be named: add outputs/NAME" in line


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("δοκιμή-lora-tiny-0a1b-s0", "lora-tiny-0a1b-s0"),
        ("--help-lora-tiny-0a1b-s0", "help-lora-tiny-0a1b-s0"),
        ("../up-lora-tiny-0a1b-s0", "up-lora-tiny-0a1b-s0"),
        ("my rows-lora-tiny-0a1b-s0", "my-rows-lora-tiny-0a1b-s0"),
    ],
)
def test_a_folder_is_no_flag_and_not_hidden(name, folder):
    assert slug_of(name) == folder
