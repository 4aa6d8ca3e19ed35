"""Training from Python: what the command line does, with its checks, without its exit, and as often as one likes."""

import json
import sys
import threading
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from support.runs import outcome, working_in

import molex_cli
from molex_cli.cli import main
from molex_cli.errors import ConfigError, DivergedError
from molex_cli.records import as_json

SMOKE = ["experiment=smoke", "hardware.threads=1", "method=lora"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder and the record of a run that Python asked for."""
    folder = tmp_path_factory.mktemp("asked")
    with working_in(folder):
        return folder, molex_cli.train(*SMOKE)


def test_a_run_is_that_of_the_command_line_bit_for_bit(trained, tmp_path):
    folder, record = trained
    assert main(["train", *SMOKE]) == 0
    assert outcome(folder) == outcome(tmp_path)
    assert record.status == "finished"
    assert record.scores["last"]["scores"]["accuracy"] >= 0
    assert (folder / record.folder / "record.json").is_file()


def test_its_record_has_the_command_that_would_have_been_typed(trained):
    assert trained[1].command == ["train", *SMOKE]


def test_a_run_that_has_finished_is_returned(trained, monkeypatch):
    folder, record = trained
    monkeypatch.chdir(folder)
    monkeypatch.setattr("molex_cli.launching.one_run.trained", lambda *_: pytest.fail("it was trained again"))
    again = molex_cli.train(*SMOKE)
    assert (again, again.folder) == (record, record.folder)


def test_an_arm_meets_a_budget():
    record = molex_cli.train(*SMOKE, "train.max_steps=1", match="lora:rank=4")
    assert record.settings["method"]["rank"] == 4
    assert record.command[-2:] == ["--match", "lora:rank=4"]


def test_threads_train_one_after_the_other_to_the_same_records(trained, tmp_path):
    found = {}

    def ask(name):
        found[name] = molex_cli.train(*SMOKE, f"output_dir={name}/outputs")

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("one", "two")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {name: record.status for name, record in found.items()} == {"one": "finished", "two": "finished"}
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two") == outcome(trained[0])


def test_whoever_uses_hydra_themselves_finds_it_as_it_was(monkeypatch):
    theirs = object()
    monkeypatch.setattr(GlobalHydra.instance(), "hydra", theirs)
    before, words = VersionBase.instance().version_base, list(sys.argv)
    with pytest.raises(ConfigError, match=r"train\.epoch is no setting"):
        molex_cli.train("train.epoch=1")
    molex_cli.plan("model=tiny_bert", "method=lora")
    assert GlobalHydra.instance().hydra is theirs
    assert VersionBase.instance().version_base is before
    assert sys.argv == words


def test_a_training_that_fails_raises_and_leaves_a_record_and_the_next_one_runs():
    with pytest.raises(DivergedError, match="must be finite") as failed:
        molex_cli.train(*SMOKE, "train.learning_rate=1e30", "train.max_grad_norm=null")
    assert "recorded in outputs/" in failed.value.__notes__[0]
    (row,) = molex_cli.read_records("outputs").to_dict("records")
    assert row["status"] == "failed"
    assert "must be finite" in row["error"]
    assert molex_cli.train(*SMOKE, "train.max_steps=1").status == "finished"


def test_what_another_process_has_to_start_is_refused():
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    with pytest.raises(ConfigError, match=r"train must run in this process, got .*Launcher; type molex"):
        molex_cli.train(*SMOKE, "hardware=pool")


def test_yaml_files_of_ones_own_are_named_as_on_the_command_line():
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/short.yaml").write_text("# @package _global_\ndefaults: [/experiment/smoke, _self_]\n")
    with pytest.raises(ConfigError, match=r"train.max_steps must be at least 1, got 0"):
        molex_cli.train("-cd", "mine", "experiment=short", "train.max_steps=0")


def test_a_plan_is_that_of_the_command_and_meets_a_budget():
    found = molex_cli.plan("model=tiny_llama", "method=mola_inverted", match="lora:rank=64")
    assert found.experts_per_layer == [2, 4, 6, 8]
    assert found.parameters["added"] == found.match.reached
    assert found.match.overrides == ["method.rank=12", "method.alpha=24"]
    assert found.memory is None
    with pytest.raises(ConfigError, match="plan must get the settings of one arm, got 2; call it once for each"):
        molex_cli.plan("model=tiny_llama", "method=mola_inverted,mola_top", match="lora:rank=64")


def test_a_plan_has_the_memory_of_a_step_and_what_fits(capsys):
    settings = ["model=tiny_bert", "method=lora", "train.batch_size=1"]
    found = molex_cli.plan(*settings, memory=True, fit="1GB")
    assert found.memory.memory.peak > 0
    assert found.memory.fits[0].batch_size == 1
    capsys.readouterr()
    assert main(["plan", *settings, "--memory", "--fit", "1GB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(as_json(found.as_data()))
