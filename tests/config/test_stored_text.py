"""Text that a file holds is text: what was saved is loaded, whatever it looks like to OmegaConf."""

import copy
import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.config import command_line, overrides, run_id, schema
from molex_cli.errors import CheckpointError
from molex_cli.methods import base

PIECES = ["${", "}", "\\", "$", "{", "${oc.env:SOME_API_KEY}", "${seed}", "${x", ":", "'", '"', "\n", "a", "é", "???"]
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
).filter(lambda text: text != "???")  # which OmegaConf takes for what is missing, and the command line for no value
MADE = overrides.checked(command_line.parse(["experiment=smoke", "method=lora"]))


def named(*texts):
    """Return an experiment with texts wherever they are free."""
    text = itertools.cycle(texts)
    made = copy.deepcopy(MADE)
    made.method.display_name, made.model.name, made.log.entity = next(text), next(text), next(text)
    made.task = dataclasses.replace(made.task, name=next(text), where={"genre": next(text)})
    made.log.tags = ["a", next(text)]
    made.model.config = {**made.model.config, "own": {"deep": [next(text), [next(text)]]}, next(text): 1}
    return made


def in_adapter(made):
    """Write the settings into an adapter file, and return them as they are read."""
    about = {"format": 1, "sha256": "", "method_class": "lora", "settings": schema.as_data(made)}
    save_file({"a": torch.zeros(1)}, "a.safetensors", {"molex": json.dumps(about | {"labels": [], "step": 0})})
    return adapter.read_about(Path("a.safetensors")).experiment


@settings(max_examples=15)
@given(st.lists(TEXTS, min_size=7, max_size=7))
@example(["\\${x}"])
@example(["${oc.env:SOME_API_KEY}"])
@example(["${molex_text:x41}"])
def test_settings_are_loaded_as_they_were_saved(texts):
    made = named(*texts)
    run_id.save_settings(Path("job.json"), made)
    assert run_id.load_settings(Path("job.json")) == made
    assert base.restored("lora", schema.as_data(made)["method"]) == made.method
    assert in_adapter(made) == made


def test_a_text_that_means_a_missing_value_is_refused_in_one_line():
    with pytest.raises(CheckpointError, match="must hold settings of this version of molex") as caught:
        in_adapter(named("???"))
    assert "\n" not in str(caught.value)


def test_a_name_that_looks_like_an_interpolation_trains_and_is_read_again(capsys):
    given = ["experiment=smoke", "method=lora", r"method.display_name=\${x}", r"task.name=\${oc.env:HOME}"]
    assert main(["train", *given]) == 0
    (folder,) = Path("outputs").glob("*-s0")
    assert json.loads((folder / "record.json").read_text())["display"]["method"] == "${x}"
    assert main(["eval", f"run={folder}"]) == 0
    assert "${oc.env:HOME}" in capsys.readouterr().out
