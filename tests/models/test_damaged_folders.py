"""A folder of a model with anything wrong in it: one line, nothing allocated that there is no memory for."""

import json
import shutil
import time
from pathlib import Path

import pytest
from conftest import composed

from molex_cli.errors import MethodError, ModelError
from molex_cli.models import loading
from molex_cli.models.settings import Model
from molex_cli.models.structure import Backbone


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small model with nothing wrong in it."""
    folder = tmp_path_factory.mktemp("model") / "whole"
    backbone = loading.load(composed(("model=tiny_bert",)).model, 2, seed=0)
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return folder


def load(whole: Path, name: str, content: bytes | None) -> Backbone:
    """Load the model with one file of its folder changed or gone."""
    shutil.copytree(whole, "model", dirs_exist_ok=True)
    path = Path("model", name)
    path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
    settings = Model(name="own", folder="model")
    loading.reader(settings, 2)
    return loading.load(settings, 2, seed=0)


def refused(whole: Path, name: str, content: bytes | None) -> str:
    with pytest.raises(ModelError) as error:
        load(whole, name, content)
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "model_type"])
@pytest.mark.parametrize("value", [None, "x", -1, 0, 10**9, [1]], ids=str)
def test_a_config_with_a_value_that_is_none_is_one_line(whole, key, value):
    config = json.loads((whole / "config.json").read_text())
    refused(whole, "config.json", json.dumps({**config, key: value}).encode())


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"\xff", b'{"a":' * 3000, b'{"model_type": "be'], ids=range(6)
)
def test_a_config_that_is_none_is_one_line(whole, content):
    refused(whole, "config.json", content)


@pytest.mark.parametrize("damage", ["cut", "empty", "head", "gone", "end"])
def test_weights_that_are_damaged_are_one_line(whole, damage):
    there = (whole / "model.safetensors").read_bytes()
    cases = {"cut": there[:1000], "empty": b"", "head": b"\xff" * 8 + there[8:], "gone": None, "end": there[:-9]}
    refused(whole, "model.safetensors", cases[damage])


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"model": null}', b'{"model": {"type": 3}}'], ids=range(5))
def test_a_tokenizer_that_is_damaged_is_one_line(whole, content):
    refused(whole, "tokenizer.json", content)


def test_a_model_that_memory_does_not_hold_is_refused_with_both_numbers(experiment, monkeypatch):
    huge = experiment("model=tiny_bert", "model.config.hidden_size=400000", "model.config.vocab_size=90000000").model
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"must fit into the memory of this machine, [\d,.]+ GiB, got [\d,.]+ GiB of"):
        loading.load(huge, 2, seed=0)
    assert time.monotonic() - started < 20
    monkeypatch.setattr(loading, "machine_memory", lambda: 1000)
    with pytest.raises(ModelError, match="must fit into the memory"):
        loading.load(experiment("model=tiny_bert").model, 2, seed=0)


@pytest.mark.parametrize("pattern", ["(([a-z.0-9_]+)+)+X", "(.*)*(.*)*(.*)*(.*)*[^a]X", "("])
def test_an_expression_that_explodes_has_an_end(experiment, pattern, monkeypatch):
    monkeypatch.setattr("molex_cli.models.structure.SECONDS", 0.3)
    backbone = loading.skeleton(experiment("model=tiny_bert").model, 2)
    with pytest.raises(MethodError, match=r"must be |must match") as error:
        backbone.targets([pattern])
    assert len(str(error.value).splitlines()) == 1
