"""A state that was damaged, or something that it relies on: one line with the way out, and nothing on disk changes."""

import json
import random
import re
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.runs import StopAt, outcome, working_in

from molex_cli.cli import main
from molex_cli.config import command_line, overrides
from molex_cli.errors import CheckpointError
from molex_cli.run import run
from molex_cli.tracking.events import Step
from molex_cli.training import state

SETTINGS = ["experiment=smoke", "method=lora", "train.evaluate_every=2", "checkpoint_every=1", "log.wandb=disabled"]
SETTINGS += ["train.max_steps=6", "train.max_rows=48", "hardware.threads=1"]
TOTAL = 6


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return the folder of a run that was interrupted after step 5, and of one that went on from there."""
    made = tmp_path_factory.mktemp("stopped")
    with working_in(made) as patched:
        with pytest.raises(KeyboardInterrupt):
            run(overrides.checked(command_line.CommandLine(overrides=SETTINGS)), extra_sinks=(StopAt(Step, 5),))
        shutil.copytree(made / "outputs", made / "whole/outputs")
        patched.chdir(made / "whole")
        assert main(["train", *SETTINGS]) == 0
    return made


@pytest.fixture
def folder(stopped, tmp_path):
    """Return the folder of such a run, to be damaged."""
    shutil.copytree(stopped / "outputs", tmp_path / "outputs")
    (path,) = (tmp_path / "outputs").glob("*/record.json")
    return path.parent


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def about_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["molex"])


def without_digest(path, change=lambda about: None, tensors=None):
    """Write a state as it was before, changed."""
    about = about_of(path) | {"format": state.WITHOUT_DIGEST}
    change(about)
    save_file(tensors or load_file(path), path, {"molex": json.dumps(about)})


def expect_refused(folder, capsys, names):
    before = content(folder)
    assert main(["train", *SETTINGS]) == 2
    out, err = capsys.readouterr()
    (line,) = (each for each in (out + err).splitlines() if not each.startswith("reading "))
    assert re.search(names, line), line
    assert "resume=never starts over beside it" in line
    assert content(folder) == before


def test_one_flipped_bit_anywhere_in_a_state_is_noticed(folder):
    path = folder / state.NAME
    whole = path.read_bytes()
    assert state.load(folder, TOTAL).step == 4
    stream, header = random.Random(0), int.from_bytes(whole[:8], "little")
    places = [*range(8), *stream.sample(range(8, header + 8), 200), *stream.sample(range(header + 8, len(whole)), 50)]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << stream.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(
            CheckpointError, match=r"progress\.safetensors must be .* resume=never starts over beside it"
        ):
            state.load(folder, TOTAL)


def test_a_state_that_is_cut_anywhere_is_noticed(folder):
    path = folder / state.NAME
    whole = path.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"must be the state of a run, got a damaged file .* resume=never"):
            state.load(folder, TOTAL)


@pytest.mark.parametrize("name", ["progress.safetensors", "adapter-best.safetensors", "predictions-best.jsonl"])
@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_what_a_resumed_run_relies_on_is_whole_or_refused(folder, capsys, name, how):
    path = folder / name
    if how == "missing" and name == state.NAME:
        return  # then the run starts over in its folder
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.unlink() if how == "missing" else path.write_bytes(whole if how == "flipped" else whole[: len(whole) // 2])
    expect_refused(folder, capsys, re.escape(name))


@pytest.mark.parametrize("name", ["adapter-last.safetensors", "predictions-last.jsonl"])
@pytest.mark.parametrize("how", ["half", "missing"])
def test_what_a_resumed_run_writes_anew_may_be_damaged(folder, stopped, name, how):
    path = folder / name
    path.unlink() if how == "missing" else path.write_bytes(path.read_bytes()[:99])
    assert main(["train", *SETTINGS]) == 0
    assert outcome(folder.parent.parent) == outcome(stopped / "whole")


def change_step(step):
    return lambda about: about.update(step=step)


DAMAGES = {
    "step 10⁹": change_step(10**9),
    "negative step": change_step(-1),
    "step beyond the schedule": change_step(7),
    "null step": change_step(None),
    "losses of other steps": lambda about: about["history"]["losses"].pop(),
    "null history": lambda about: about.update(history=None),
    "null settings": lambda about: about.update(settings=None),
    "null flow": lambda about: about.update(flow=None),
    "strange flow": lambda about: about["flow"]["waiting"].append("x"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_state_of_before_that_no_run_can_be_in_is_refused(folder, capsys, damage):
    without_digest(folder / state.NAME, DAMAGES[damage])
    expect_refused(folder, capsys, r"progress\.safetensors")


def test_a_moment_of_a_wrong_shape_is_refused(folder, capsys):
    tensors = load_file(folder / state.NAME)
    name = next(name for name in tensors if name.startswith("exp_avg/"))
    without_digest(folder / state.NAME, tensors={**tensors, name: torch.zeros(3)})
    expect_refused(folder, capsys, r"exp_avg/.* must be of shape")


def test_a_whole_state_of_before_opens(folder, stopped):
    without_digest(folder / state.NAME, lambda about: about.pop("files"))
    assert main(["train", *SETTINGS]) == 0
    assert outcome(folder.parent.parent) == outcome(stopped / "whole")


def test_settings_of_an_adapter_that_were_damaged_are_noticed(folder, capsys):
    path = folder / "adapter-last.safetensors"
    path.write_bytes(path.read_bytes().replace(rb"\"alpha\": 16", rb"\"alpha\": 17"))
    assert main(["eval", f"run={folder}"]) == 2
    assert "must hold the settings that were saved, got others; it is damaged" in capsys.readouterr().err
