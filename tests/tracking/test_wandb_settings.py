"""What W&B could not read or take is refused in one line before a run begins, by W&B's own rules."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest
import wandb
from hypothesis import given, settings
from hypothesis import strategies as st
from support.wandb_process import no_process_of_wandb_is_left  # noqa: F401
from wandb_server import Server

from molex_cli.cli import main
from molex_cli.config.schema import Log, Wandb
from molex_cli.errors import ConfigError
from molex_cli.tracking.wandb import NOT_SENT, chosen_mode, has_key, require_usable

SMOKE = ["experiment=smoke", "hardware.threads=1", "method=head", "train.max_steps=1"]
KEY = "k3y" * 14


@pytest.fixture(autouse=True)
def no_environment_of_others(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    wandb.teardown()


def refused(capsys, *arguments):
    """Run a command that must stop in one line, and return it."""
    assert main([*arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert not Path("outputs").exists()
    (line,) = err.splitlines()
    return line


VARIABLES = {
    "WANDB_MODE": ["", "nonsense", " online"],
    "WANDB_BASE_URL": ["", "127.0.0.1:9", "http://h:99999", "http://h:x", "http://[::1", "ftp://h", "http://"],
    "WANDB_TAGS": ["t" * 65],
    "WANDB_PROJECT": ["a/b"],
    "WANDB_SILENT": ["maybe"],
    "WANDB_API_KEY": [f"{KEY}\n"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, each in VARIABLES.items() for value in each])
def test_a_variable_that_wandb_cannot_read_is_named_before_the_run(name, value, monkeypatch, capsys):
    monkeypatch.setenv(name, value)
    line = refused(capsys, "train", *SMOKE, "log.wandb=auto")
    assert line.startswith(f"molex: {name} must be what W&B takes, got ")
    assert KEY not in line
    if name not in ("WANDB_API_KEY", "WANDB_TAGS"):
        assert repr(value) in line


def test_a_run_without_wandb_needs_none_of_its_variables(monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://h:x")
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    require_usable({Wandb.disabled})
    with pytest.raises(ConfigError):
        require_usable({Wandb.disabled, Wandb.offline})


def test_a_setting_goes_before_a_mode_that_disables(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["train", *SMOKE, "log.wandb=offline"]) == 0
    assert list(Path("outputs").glob("*/wandb/offline-run-*/*.wandb"))
    assert "WandbSink failed" not in capsys.readouterr().out


@pytest.mark.parametrize(("mode", "meant"), [("dryrun", "offline"), ("run", "online"), ("offline", "offline")])
def test_modes_of_before_mean_what_they_do_in_wandb(mode, meant, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert chosen_mode(Log().wandb) == meant


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b"machine", None])
def test_a_netrc_that_cannot_be_read_costs_one_line(content, monkeypatch, capsys):
    path = Path("netrc").resolve()
    path.mkdir() if content is None else path.write_bytes(content)
    monkeypatch.setenv("NETRC", str(path))
    for _ in range(2):
        assert chosen_mode(Log().wandb) == "offline"
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"note: {path} must be a file that can be read for W&B's API key")


def test_netrc_names_a_server_as_wandb_writes_it(monkeypatch):
    Path("netrc").write_text(f"machine 127.0.0.1:8080 login user password {KEY}\n")
    monkeypatch.setenv("NETRC", "netrc")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:8080")
    assert has_key()


def taken(**settings):
    """Return whether W&B takes the settings of a run."""
    with contextlib.suppress(ValueError, wandb.errors.Error):
        wandb.Settings(**settings)
        return True
    return False


NAMES = st.text(st.sampled_from("ab-_ /\\#?%:é"), max_size=6) | st.integers(126, 130).map(lambda n: "n" * n)
TAGS = st.text(max_size=3) | st.integers(62, 66).map(lambda n: "t" * n)


@settings(max_examples=25)
@given(NAMES)
def test_a_project_is_refused_where_wandb_refuses_it(name):
    assert (not list(Log(project=name).wandb_problems())) == taken(project=name)


@settings(max_examples=25)
@given(TAGS)
def test_a_tag_is_refused_where_wandb_refuses_it(tag):
    assert (not list(Log(tags=[tag]).wandb_problems())) == taken(run_tags=[tag])


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("log.project=a/b", "log.project must be at most 128 characters"),
        ("log.entity=a/b", "log.entity must be at most 128 characters"),
        (f"log.tags=[{'t' * 65}]", "log.tags must have 1 to 64 characters each"),
        ("log.timeout=1e300", "log.timeout must be at most 86400"),
        ("log.timeout=nan", "log.timeout must be a finite number"),
    ],
)
def test_a_name_that_wandb_does_not_take_is_refused(argument, says, capsys):
    assert says in refused(capsys, "train", *SMOKE, "log.wandb=offline", argument)


@pytest.mark.parametrize("flag", ["nan", "inf", "-inf", "1e300", "0", "-1"])
def test_sync_takes_no_endless_timeout(flag, capsys):
    assert "--timeout" in refused(capsys, "sync", f"--timeout={flag}")


@pytest.mark.parametrize("command", [("bench", "--dropout"), ("bench", "--inference", "--experts")])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_no_flag_takes_a_number_that_is_not_finite(command, value, capsys):
    assert "must be a finite number" in refused(capsys, *command, value)


@pytest.fixture
def unsent():
    """Make what a run leaves whose W&B log was not sent."""
    log = Path("--x/run/wandb/offline-run-1")
    log.mkdir(parents=True)
    (log / NOT_SENT).touch()


def test_sync_sends_a_folder_whose_name_looks_like_a_flag(monkeypatch, capsys):
    assert main(["train", *SMOKE, "log.wandb=offline", "output_dir=--x"]) == 0
    with Server().running() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert main(["sync", "--", "--x"]) == 0
    assert "1 of 1 sent" in capsys.readouterr().out
    assert len(server.runs) == 1


@pytest.mark.usefixtures("unsent")
@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b""])
def test_sync_says_in_one_line_that_what_answers_is_no_server_of_wandb(answer, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        threading.Thread(target=said_once, args=(server, answer), daemon=True).start()
        assert main(["sync", "--", "--x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "W&B's server must answer" in line


def said_once(server, answer):
    """Take one connection and say something that is no HTTP."""
    connection, _ = server.accept()
    connection.recv(1000)
    connection.sendall(answer)
    connection.close()


def test_no_workspace_is_saved_where_no_server_is(monkeypatch, capsys):
    assert main(["train", *SMOKE, "log.wandb=disabled"]) == 0
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for url, says in (
        ("http://127.0.0.1:9", "W&B's server must answer"),
        ("h:1", "WANDB_BASE_URL must be what W&B takes"),
    ):
        capsys.readouterr()
        monkeypatch.setenv("WANDB_BASE_URL", url)
        assert main(["wandb-view"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line


@pytest.mark.usefixtures("unsent")
def test_sync_names_a_variable_that_wandb_cannot_read(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_BASE_URL", "127.0.0.1:9")
    assert main(["sync", "--", "--x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "WANDB_BASE_URL must be what W&B takes, got '127.0.0.1:9'" in line
