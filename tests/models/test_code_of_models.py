"""Code and pickles that come with a model: they are refused in one line, and nothing is asked on a terminal."""

import ast
import builtins
import json
import os
import pickle
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from molex_cli.errors import ModelError
from molex_cli.models import loading
from molex_cli.models.byte_tokenizer import VOCABULARY_SIZE, byte_tokenizer
from molex_cli.models.loading import load, reader, skeleton
from molex_cli.models.settings import Model

SIZES = {"vocab_size": VOCABULARY_SIZE, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 16, "pad_token_id": 0}  # fmt: skip
OWN = {
    "AutoConfig": "theirs.Theirs",
    "AutoModelForCausalLM": "theirs.Theirs",
    "AutoModelForSequenceClassification": "theirs.Theirs",
}
OUTPUTS = {"llama": None, "bert": 2}


class Touch:
    """What creates a file when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture(autouse=True)
def unasked(monkeypatch):
    """Let whoever asks on the terminal get the answer that does the most harm."""
    monkeypatch.setattr(builtins, "input", lambda question="": "y")
    yield
    assert not Path("ran").exists()


@pytest.fixture
def folder(tmp_path):
    """Return a function from a family to the folder of a model, in whose settings some are changed."""

    def make(family, **changed):
        place = tmp_path / "theirs"
        AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES)).save_pretrained(place)
        byte_tokenizer(64).save_pretrained(place)
        (place / "theirs.py").write_text("open('ran', 'w')\nclass Theirs: pass\n")
        change(place / "config.json", **changed)
        return place

    return make


def change(file, **changed):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


def settings(folder):
    return Model(name="mine", folder=str(folder))


@pytest.mark.parametrize("family", OUTPUTS)
def test_code_of_an_unknown_family_is_refused(family, folder):
    place = folder(family, model_type="theirs", auto_map=OWN)
    for opened in (partial(load, seed=0), reader, skeleton):
        with pytest.raises(ModelError, match="must need no code of its own"):
            opened(settings(place), OUTPUTS[family])


@pytest.mark.parametrize("family", OUTPUTS)
def test_a_known_family_is_what_transformers_has_for_it(family, folder):
    place = folder(family, auto_map=OWN)
    change(place / "tokenizer_config.json", auto_map={"AutoTokenizer": ["theirs.Theirs", None]})
    model = load(settings(place), OUTPUTS[family], 0).model
    assert type(model).__module__ == f"transformers.models.{family}.modeling_{family}"


def test_code_of_a_tokenizer_is_refused(folder):
    place = folder("llama")  # whose tokenizers have no class of their own
    own = {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.Theirs", None]}}
    change(place / "tokenizer_config.json", **own)
    with pytest.raises(ModelError, match="must need no code of its own"):
        reader(settings(place), None)


def test_code_that_settings_name_for_a_family_without_such_a_head_is_refused():
    config = {"model_type": "vit", "auto_map": {name: f"somebody/model--{each}" for name, each in OWN.items()}}
    with pytest.raises(ModelError, match="must need no code of its own"):
        load(Model(name="mine", random=True, config=config), 2, 0)


def test_a_pickle_that_does_something_is_refused(folder):
    place = folder("bert")
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Touch()}))
    with pytest.raises(ModelError, match="must be loadable from") as refused:
        load(settings(place), 2, 0)
    assert "\n" not in str(refused.value)


def test_a_damaged_gguf_is_one_line(tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"must be loadable from .*model\.gguf, got: "):
        reader(Model(name="mine", folder=str(tmp_path), gguf="model.gguf"), None, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/models/*"))


def test_every_call_that_might_run_code_of_a_model_says_that_it_must_not():
    package = Path(loading.__file__).parents[1]
    calls = [
        call
        for file in package.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in ("from_pretrained", "from_config")
    ]
    assert len(calls) > 5
    for call in calls:
        said = {each.arg: ast.unparse(each.value) for each in call.keywords}
        assert said.get("trust_remote_code") == "False", ast.unparse(call)


def test_safetensors_are_taken_where_a_pickle_lies_beside(folder):
    place = folder("bert")
    (place / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Touch()}))
    load(settings(place), 2, 0)
