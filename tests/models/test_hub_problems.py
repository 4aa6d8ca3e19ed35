"""What the hub's clients raise is one line that says what is wrong and the way out; no network."""

import httpx2
import pytest
from huggingface_hub import errors

from molex_cli.errors import ConfigError, DataError, ModelError
from molex_cli.models.hub import connection, problems
from molex_cli.models.hub.problems import Source

MODEL = Source("model", "some/model", "v2", "model=mine", "set model.folder=PATH")
DATA = Source("dataset", "some/set", None, "task=mine", "set task.files.train")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://user:hunter2@hub.example")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", "none")


def answer(kind, status, **headers):
    """Return an error of the client as the hub's answer makes it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = httpx2.Request("GET", "https://user:hunter2@hub.example/some/model")
    return kind("in\nmany\nlines", response=httpx2.Response(status, headers=named, request=request))


def behind(cause):
    """Return an error as transformers raises it for another."""
    try:
        raise OSError("We couldn't connect, for https://user:hunter2@hub.example") from cause
    except OSError as error:
        return error


REPOSITORY, GATED = errors.RepositoryNotFoundError, errors.GatedRepoError
REVISION, PLAIN = errors.RevisionNotFoundError, errors.HfHubHTTPError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            answer(REPOSITORY, 404),
            "model.hub must be a model on the hub, got some/model, which https://hub.example does",
        ),
        (answer(REPOSITORY, 401), "or set HF_TOKEN (hf auth login) if it is private"),
        (
            answer(GATED, 401),
            "got some/model, which is gated; ask for access at https://hub.example/some/model, then set",
        ),
        (answer(REVISION, 404), "model.revision must be a branch, a tag or a commit of some/model, got v2"),
        (answer(PLAIN, 401, X_Error_Message="Invalid credentials in Authorization header"), "HF_TOKEN must be a token"),
        (
            answer(PLAIN, 429, Retry_After="300"),
            "got 429 (too many requests) from https://hub.example; run it again in 300",
        ),
        (answer(PLAIN, 429), "run it again in some minutes; a token (HF_TOKEN) raises its limit"),
        (
            answer(PLAIN, 503),
            "model=mine must come from the hub, got 503 from https://hub.example; run it again later, or",
        ),
        (answer(PLAIN, 403), "that is open to you, got some/model; ask for access"),
        (answer(PLAIN, 418), "see whether HF_ENDPOINT is right"),
        (answer(errors.RemoteEntryNotFoundError, 404), "with the files that it lists"),
        (answer(errors.DisabledRepoError, 403), "which is disabled there; choose another"),
        (errors.HFValidationError("Repo id must use\nsome chars."), "model.hub must be a model by its id, OWNER/NAME"),
        (errors.FileMetadataError("no header"), "HF_ENDPOINT must be the address of a hub, got https://hub.example"),
        (httpx2.ConnectError("[Errno 111] Connection refused"), "hub at https://hub.example (Connection refused); run"),
        (
            httpx2.ReadTimeout("timed out"),
            "got no connection to the hub at https://hub.example (no answer within 10 s)",
        ),
        (
            httpx2.RemoteProtocolError("peer closed"),
            "some/model must come whole, got a connection to https://hub.example",
        ),
        (OSError("Consistency check failed: file should be"), "some/model must come whole, got a file of another size"),
        (OSError(28, "No space left on device", "/cache"), "/cache must have room for what is written"),
        (PermissionError(13, "Permission denied", "/cache"), "/cache must let this user read and write it"),
    ],
)
def test_each_failure_is_one_line_also_behind_another_library_and_shows_no_password(error, said):
    for raised in (error, behind(error)):
        line = str(problems.told(raised, MODEL))
        assert said in line
        assert "\n" not in line
        assert "hunter2" not in line


def test_what_is_none_of_the_hubs_is_left_to_others():
    assert problems.told(ValueError("vocab_size"), MODEL) is None


def test_a_data_set_is_told_by_its_own_settings():
    told = problems.told(answer(GATED, 403), DATA)
    assert isinstance(told, DataError)
    assert str(told).startswith("task.hub.path must be a data set that is open to you, got some/set, which is gated")
    assert "https://hub.example/datasets/some/set" in str(told)
    assert "task.hub.revision must be" in str(problems.told(answer(REVISION, 404), DATA))
    assert isinstance(problems.told(answer(REVISION, 404), MODEL), ModelError)


def test_a_token_changes_the_way_out(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    assert str(problems.told(answer(REPOSITORY, 404), MODEL)).endswith("mend the id")
    assert str(problems.told(answer(GATED, 403), MODEL)).endswith("the token is valid, but has no access")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("hub.example", "'hub.example'"),
        ("http://", "'http://'"),
        ("ftp://hub.example", "'ftp://hub.example'"),
        ("https:/hub.example", "'https:/hub.example'"),
        ("http://hub.example:hunter2", "'http://hub.example:***'"),
        ("https://user:hunter2@hub.example:x", "'https://hub.example:***'"),
        ("http://[::1", "'http://[::1'"),
        ("https://hub.example /x?token=hunter2", "'https://hub.example /x'"),
    ],
)
def test_an_endpoint_that_is_no_address_is_refused_without_what_may_be_secret(address, shown, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(ConfigError, match="HF_ENDPOINT must be the address of a hub") as raised:
        connection.require_endpoint()
    assert f"got {shown}; mend it" in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["", "https://hub.example/mirror/", "http://127.0.0.1:80", "https://u:p@h", "http://[::1]:1"]
)
def test_other_endpoints_are_taken(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    connection.require_endpoint()
