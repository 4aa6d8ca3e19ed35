"""No value of a variable that looks secret is in a file, however it came there."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molex_cli import records
from molex_cli.cli import main
from molex_cli.config import run_id
from molex_cli.data import reading
from molex_cli.errors import DataError
from molex_cli.launching.job_process import _console
from molex_cli.records import secrets
from molex_cli.run import run

SECRET = 'p4ss"wörd\\of a person'
TEXTS = st.text() | st.sampled_from([SECRET, f"a {SECRET} b", SECRET * 2])


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("SOME_PASSWORD", SECRET)


@given(st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=6))
def test_what_is_written_as_json_has_no_secret_and_is_else_the_same(content):
    def expected(value):
        if isinstance(value, dict):
            return {expected(key): expected(item) for key, item in value.items()}
        return [expected(item) for item in value] if isinstance(value, list) else value.replace(SECRET, "***")

    assert json.loads(records.as_json(content)) == expected(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),
        ("KEYBOARD", "deutsch"),
        ("TOKEN_DIR", "/home/person/tokens"),
        ("KEY_FILE", "~/keys/of/mine"),
        ("KEY_COUNT", "123456789"),
        ("SECRET_PLACE", "somewhere"),
        ("PLACE", SECRET),
        ("EMPTY_KEY", ""),
    ],
)
def test_words_numbers_and_folders_stay_as_they_are(name, value, monkeypatch):
    monkeypatch.delenv("SOME_PASSWORD")
    monkeypatch.setenv(name, value)
    assert records.as_json(f"a {value} b") == json.dumps(f"a {value} b", ensure_ascii=False)


def test_settings_stay_as_they_were_typed(experiment):
    made = experiment("method=head", "log.tags=[a]")
    made.log.tags = [SECRET]
    run_id.save_settings(Path("job.json"), made)
    assert run_id.load_settings(Path("job.json")) == made


def files():
    return "".join(path.read_text(errors="replace") for path in Path().rglob("*") if path.is_file())


def failing(*_, **__):
    raise DataError(f"no rows at https://user:{SECRET}@host")


def test_a_failed_run_tells_no_secret(experiment, monkeypatch):
    from molex_cli.training import single_task

    monkeypatch.setattr(single_task, "train", failing)
    with pytest.raises(DataError):
        run(experiment("method=head"))
    (record,) = Path("outputs").glob("*/record.json")
    error = json.loads(record.read_text())["error"]
    assert error["message"] == "no rows at https://user:***@host"
    assert "***" in error["traceback"]
    assert "p4ss" not in files()


def test_an_error_on_the_screen_tells_no_secret(monkeypatch, capsys):
    monkeypatch.setattr(reading, "read_all", failing)
    assert main(["train", "experiment=smoke", "log.wandb=disabled"]) == 2
    assert capsys.readouterr().err == "molex: no rows at https://user:***@host\n"


def test_the_console_of_a_job_has_no_secret_and_outlives_a_full_disk():
    with _console(Path()) as console:
        print("a", SECRET, file=console)
        assert Path("console.log").read_text() == "a ***\n"
    Path("full").mkdir()
    Path("full/console.log").symlink_to("/dev/full")
    with _console(Path("full")) as console:
        print("dropped", file=console, flush=True)


def test_a_secret_that_begins_with_another_is_hidden_whole(monkeypatch):
    monkeypatch.setenv("B_KEY", SECRET + "and more 1")
    assert secrets.hidden(f"x {SECRET}and more 1 y") == "x *** y"


@pytest.mark.parametrize("name", ["TOKENIZED_DATA", "MONKEY_DIR", "KEYBOARD", "TOKENIZERS_BACKEND"])
def test_a_word_that_only_begins_or_ends_as_a_secret_does_is_none(name):
    assert not secrets.looks_secret(name)


def test_a_password_in_the_address_of_a_server_is_hidden(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://person:hunter2hunter2@mirror.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://person:short@proxy")
    assert secrets.hidden("GET https://person:hunter2hunter2@mirror.example") == "GET https://person:***@mirror.example"
    assert secrets.hidden("in short") == "in short"  # a word of a text more likely than a password
