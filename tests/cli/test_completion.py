"""Tab completion: what it offers, what it costs, and that nothing else gets into the prompt."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.made_records import leave

from molex_cli.cli import main
from molex_cli.cli.registry import commands

HEAVY = {"hydra", "omegaconf", "torch", "rich", "yaml", "msgspec", "argparse", "ast"}


@pytest.fixture
def offered(capfd, monkeypatch):
    """Return what completes a line: the candidates, none of which stand beside anything else that was printed."""

    def complete(line):
        monkeypatch.setenv("COMP_LINE", line)
        assert main(["-sc", "query=bash"]) == 0
        out, err = capfd.readouterr()
        assert err == ""
        return out.splitlines()

    return complete


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("molex pl", ["plan"]),
        ("molex --v", ["--version"]),
        ("molex train task=glue/r", ["task=glue/rte"]),
        ("molex train method=mola_in", ["method=mola_inverted"]),
        ("molex train -m method=lora,mola_in", ["method=lora,mola_inverted"]),
        ("molex train train.learn", ["train.learning_rate="]),
        ("molex train tr", ["train."]),
        ("molex train method=lora method.allocation.sh", ["method.allocation.shape="]),
        ("molex train method=head method.ra", []),
        ("molex train method=molex method.lora.ra", ["method.lora.rank="]),
        ("molex train log.wandb=o", ["log.wandb=online", "log.wandb=offline"]),
        ("molex train fail_fast=", ["fail_fast=true", "fail_fast=false"]),
        ("molex train --mul", ["--multirun"]),
        ("molex train --cfg ", ["job", "hydra", "all"]),
        ("molex train --help method.allocation.sh", ["method.allocation.shape"]),
        ("molex eval split=v", ["split=validation"]),
        ("molex eval train.e", ["train.eval_batch_size="]),
        ("molex eval which=b", ["which=best"]),
        ("molex compare --fig", ["--figure", "--figure-width"]),
        ("molex compare --format=js", ["--format=json"]),
        ("molex list m", ["methods", "models", "model=", "model.", "method=", "method."]),
        ("molex train 'an open quo", []),
        ("molex doctor ", ["data_dir=", "output_dir=", "cache_dir="]),
        ("molex list train", []),
        ("molex study method", []),
        ("molex study hardware.dev", ["hardware.device=", "hardware.devices="]),
        ("molex nothing ", []),
        ("molex compare train.", []),
        ("molex merge method", []),
        ("molex predict task", []),
        ("", list(commands())),
    ],
)
def test_a_word_is_completed_by_what_its_command_takes(line, expected, offered):
    assert sorted(offered(line)) == sorted(expected)


def test_every_command_of_the_help_is_offered_and_has_flags(offered):
    assert offered("molex ") == list(commands())
    for name in commands():
        assert "--help" in offered(f"molex {name} --"), name


def test_what_stands_behind_the_cursor_does_not_count(offered, monkeypatch):
    monkeypatch.setenv("COMP_POINT", "8")
    assert offered("molex pl model=tiny_bert") == ["plan"]


def test_runs_are_offered_where_a_run_is_taken(offered):
    leave(Path("outputs/one run"))
    leave(Path("outputs/other"))
    Path("outputs/sweeps").mkdir()
    assert offered("molex eval run=") == ["run=outputs/one run", "run=outputs/other", "run=outputs/sweeps/"]
    assert offered("molex eval run=outputs/ot") == ["run=outputs/other"]
    assert offered("molex merge outputs/ot") == ["outputs/other"]
    assert offered("molex predict outputs/ot") == ["outputs/other"]
    assert offered("molex compare out") == ["outputs/"]
    assert offered("molex train run=") == []


def catalogues():
    return list(Path(os.environ["MOLEX_CACHE"], "completion").glob("*.json"))


def test_the_second_time_only_the_cache_is_read(tmp_path):
    code = (
        "import sys, molex_cli.cli as c; c.main(['-sc', 'query=bash']); print(*{m.split('.')[0] for m in sys.modules})"
    )
    environment = os.environ | {"COMP_LINE": "molex train train.learn", "MOLEX_CACHE": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    first, modules = done.stdout.splitlines()
    assert first == "train.learning_rate="
    assert not HEAVY & set(modules.split())


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"fingerprint": 0}', "\0", '{"fingerprint": FINGERPRINT, "catalogue": []}']
)
def test_a_damaged_cache_is_made_anew(damage, offered, monkeypatch, tmp_path):
    monkeypatch.setenv("MOLEX_CACHE", str(tmp_path / "cache"))
    assert offered("molex pl") == ["plan"]
    (file,) = catalogues()
    whole = json.loads(file.read_text())
    file.write_text(damage.replace("FINGERPRINT", str(whole["fingerprint"])))
    assert offered("molex pl") == ["plan"]
    assert json.loads(file.read_text()) == whole


def test_a_cache_that_cannot_be_written_costs_nothing(offered, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOLEX_CACHE", str(tmp_path / "file"))
    assert offered("molex pl") == ["plan"]


def test_a_changed_file_of_ones_own_is_noticed(offered):
    folder = Path("mine/method")
    folder.mkdir(parents=True)
    own = "defaults: [/schema/method/lora@_here_, _self_]\n"
    (folder / "own_a.yaml").write_text(own)
    assert offered("molex train -cd mine method=own_") == ["method=own_a"]
    (folder / "own_b.yaml").write_text("defaults: [own_a, _self_]\n")
    assert offered("molex train --config-dir=mine method=own_") == ["method=own_a", "method=own_b"]
    assert offered("molex train -cd mine method=own_b method.ra") == ["method.rank="]
    assert offered("molex train method=own_") == []
    assert offered("molex train -cd nowhere method=own_") == []


def test_nothing_is_printed_whatever_fails(offered, monkeypatch):
    def broken(*_):
        print("noise")
        os.write(2, b"more noise\n")
        raise RuntimeError("broken")

    monkeypatch.setattr("molex_cli.cli.completion._catalogue", broken)
    assert offered("molex train ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed_and_removed(shell, capsys):
    assert main(["-sc", f"install={shell}"]) == 0
    assert f"query={shell}" in capsys.readouterr().out
    assert main(["-sc", f"uninstall={shell}"]) == 0
    assert "molex" in capsys.readouterr().out
    assert main(["-sc", "install=csh"]) == 2
    assert "one of bash, fish, zsh" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("molex pl", ["plan "]),
        ("molex train train.learn", ["train.learning_rate="]),
        ("molex train task=glue/rt", ["glue/rte "]),  # bash takes what stands behind = for a word of its own
        ("molex eval run=outputs/on", ["outputs/one\\ run "]),
    ],
)
def test_bash_gets_what_it_puts_into_the_line(line, replies, tmp_path):
    leave(Path("outputs/one run"))
    (tmp_path / "molex").write_text(f'#!/bin/sh\nexec {sys.executable} -m molex_cli "$@"\n')
    (tmp_path / "molex").chmod(0o755)
    script = f"""
eval "$(molex -sc install=bash)"
COMP_LINE={line!r} COMP_POINT={len(line)} COMP_WORDS=(molex) COMP_CWORD=1
_molex
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p molex
"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    *shown, installed = done.stdout.splitlines()
    assert shown == replies
    assert installed.endswith(" -F _molex molex")
