"""Which files of a repository are taken, and how long the hub may be silent; no network."""

from dataclasses import replace
from types import SimpleNamespace

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants

from molex_cli.data.hub_rows import loaded
from molex_cli.errors import DataError, ModelError
from molex_cli.models.hub import connection, problems, repositories
from molex_cli.models.hub.problems import Source

COMMIT = "c" * 40
MODEL = Source("model", "some/model", None, "model=mine", "set model.folder=PATH")
ROWS = Source("dataset", "some/set", None, "task=mine", "set task.files.train")


def test_of_a_model_neither_code_nor_what_lies_elsewhere_nor_a_second_format_is_taken():
    top = ["config.json", "model.safetensors", "pytorch_model.bin", "theirs.py", "adapter_config.json"]
    found = repositories.Found(COMMIT, dict.fromkeys([*top, "../x.json", "onnx/model.safetensors"], "1"))
    assert found.names(weights=True) == ["config.json", "model.safetensors"]
    assert repositories.Found(COMMIT, {"pytorch_model.bin": "1"}).names(weights=True) == ["pytorch_model.bin"]


def test_a_hub_that_went_away_after_it_was_asked_is_one_line(monkeypatch):
    found = repositories.Found(COMMIT, {"config.json": "1"})
    monkeypatch.setitem(repositories._found, repositories.key_of(MODEL), found)
    with pytest.raises(ModelError, match="got HF_HUB_OFFLINE set and only a part of the cached copy of some/model"):
        repositories.folder(MODEL, weights=False)


def test_a_commit_that_is_none_names_no_folder(monkeypatch):
    about = SimpleNamespace(sha="../../../x", gated=False, siblings=[])
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *_, **__: about)
    monkeypatch.setattr(connection, "_prepared", [True])
    monkeypatch.setattr(repositories, "_missing", {})
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(ModelError, match="HF_ENDPOINT must be the address of a hub"):
        repositories.at(MODEL)


@pytest.mark.parametrize("revision", ["../../../x", "/x", "a/../b"])
def test_a_revision_that_no_branch_can_have_names_no_file(revision, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "a" / "b"))
    (tmp_path / "x").write_text(COMMIT)
    (tmp_path / "a/b/models--some--model/refs").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"model\.revision must be a branch, a tag or a commit of some/model, got "):
        repositories.at(replace(MODEL, revision=revision))


def test_what_the_cache_has_in_place_of_a_commit_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source = replace(MODEL, revision="torn")
    refs = tmp_path / "models--some--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "torn").write_bytes(b"\xff..")
    with pytest.raises(ModelError, match="no cached copy of some/model"):
        repositories.at(source)


def test_a_folder_of_a_data_sets_name_is_not_taken_for_it(tmp_path):
    (tmp_path / "some" / "set").mkdir(parents=True)
    with pytest.raises(DataError, match=r"task\.hub\.path must be a data set of the hub, got some/set, which is a f"):
        loaded(ROWS, None, "train", "task.hub.train")


@pytest.mark.parametrize(("method", "silence"), [("GET", 10), ("PUT", 300), ("POST", 300)])
def test_no_request_waits_for_ever(method, silence, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with connection._limited_client() as client:
        request = client.build_request(method, "https://hub.example/x")
        for hook in client.event_hooks["request"]:
            hook(request)
    assert request.extensions["timeout"] == {"connect": 10, "read": silence, "write": silence, "pool": silence}
    assert problems.reason(httpx2.ReadTimeout("", request=request)) == f"no answer within {silence} s"
    assert problems.reason(httpx2.ConnectTimeout("", request=request)) == "no answer within 10 s"
