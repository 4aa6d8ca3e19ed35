"""A run that was killed resumes as if nothing had happened; one that cannot says why."""

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
from support.runs import SMOKE, StopAt, interrupted, outcome, sequence

from molex_cli import records
from molex_cli.cli import main
from molex_cli.config import command_line, overrides, run_id
from molex_cli.config.schema import Keep
from molex_cli.errors import CheckpointError
from molex_cli.run import run
from molex_cli.tracking.events import Evaluated
from molex_cli.training import state


@pytest.fixture(scope="module")
def fresh_process():
    """Return what starts a function in a process of its own, forked from one that has the imports behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["molex_cli.launching.preload"])
    return context.Process


def go(settings, folder, environment):
    os.environ.update(environment)
    os.chdir(folder)
    main(["train", *settings])


def steps_told(folder):
    paths = list(folder.glob("outputs/*/events.jsonl"))
    return paths[0].read_text().count('"event": "step"') if paths else 0


def killed_until_done(settings, folder, fresh_process, stream, kills):
    """Run, kill the process dead at random steps, and start it again until it has ended; return how often it died."""
    environment = {"MOLEX_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    died = 0
    while True:
        process = fresh_process(target=go, args=(settings, folder, environment))
        process.start()
        until = steps_told(folder) + stream.randint(1, 7) if died < kills else 10**9
        while process.is_alive() and steps_told(folder) < until:
            time.sleep(0.002)
        if not process.is_alive():
            assert process.exitcode == 0
            return died
        process.kill()
        process.join()
        died += 1


@pytest.mark.parametrize("method", ["lora", "mola_inverted", "mixlora", "molex"])
def test_a_run_killed_at_random_steps_ends_bit_for_bit_as_one_left_alone(tmp_path, fresh_process, method):
    settings = [*SMOKE, f"method={method}", "train.evaluate_every=7", "train.evaluate_at_start=true"]
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    for folder in (alone, killed):
        folder.mkdir()
    assert killed_until_done(settings, alone, fresh_process, random.Random(0), kills=0) == 0
    again = [*settings, "checkpoint_every=3"]
    died = killed_until_done(again, killed, fresh_process, random.Random(method), kills=4)
    assert died >= 3
    assert outcome(killed) == outcome(alone)
    (path,) = killed.glob("outputs/*/record.json")
    attempts = json.loads(path.read_text())["attempts"]
    assert len(attempts) == died
    assert {attempt["status"] for attempt in attempts} == {"interrupted"}
    assert attempts[-1]["resumed_from_step"] > 0
    assert not (path.parent / state.NAME).exists()


def test_the_state_after_an_evaluation_has_that_evaluation(experiment):
    settings = ["train.max_steps=6", "train.evaluate_every=2", "checkpoint_every=1"]
    record = run(interrupted(experiment, *settings, at=5))
    folder = Path("outputs") / run_id.run_name(experiment(*settings)).replace("/", "-")
    told = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["step"] for e in told if e["event"] == "evaluated"] == [2, 4, 6]
    assert [e["step"] for e in told if e["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert record.attempts[0]["resumed_from_step"] == 4


def test_a_run_without_a_state_starts_over_in_its_folder(experiment):
    record = run(interrupted(experiment, at=1))
    assert record.status == "finished"
    assert record.attempts[0]["resumed_from_step"] == 0
    assert len(list(Path("outputs").glob("*/record.json"))) == 1


def test_a_run_does_not_go_on_under_other_conditions_and_loses_nothing(experiment):
    interrupted(experiment, "checkpoint_every=1", "train.max_steps=6")
    changed = experiment("checkpoint_every=1", "train.max_steps=6", "hardware.activation_checkpointing=true")
    (folder,) = (path.parent for path in Path("outputs").glob("*/record.json"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    way_out = r"hardware\.activation_checkpointing: False -> True; set that back, or let resume=never start over"
    with pytest.raises(CheckpointError, match=way_out):
        run(changed)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run(experiment("checkpoint_every=1", "train.max_steps=6")).status == "finished"


def test_other_data_under_the_same_name_is_another_run_beside_the_interrupted_one(experiment):
    Path("t.csv").write_text("text,label\n" + "a b c,yes\nd e f,no\n" * 16)
    files = ["task=files", "task.files.train=t.csv", "task.files.validation=t.csv", "task.columns=[text]"]
    settings = [*files, "task.label=label", "checkpoint_every=1", "train.max_steps=6"]
    interrupted(experiment, *settings)
    (folder,) = (path.parent for path in Path("outputs").glob("*/record.json"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    Path("t.csv").write_text("text,label\n" + "a b c,no\nd e f,yes\n" * 16)
    assert run(experiment(*settings)).attempts == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert Path(f"{folder}.2/record.json").exists()


def test_a_damaged_state_is_refused_with_the_way_out(experiment):
    again = interrupted(experiment, "checkpoint_every=1", "train.max_steps=6")
    (path,) = Path("outputs").glob(f"*/{state.NAME}")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"must be the state of a run, got a damaged file .* resume=never"):
        run(again)


def test_resume_never_starts_over_beside_what_was_interrupted(experiment):
    interrupted(experiment, "checkpoint_every=1", "train.max_steps=6")
    record = run(experiment("checkpoint_every=1", "train.max_steps=6", "resume=never"))
    assert (record.status, record.attempts) == ("finished", [])
    statuses = [records.read_record(path).status for path in sorted(Path("outputs").glob("*-s0*"))]
    assert statuses == ["interrupted", "finished"]


def test_a_finished_run_is_shown_and_not_run_again(capsys):
    assert main(["train", "experiment=smoke"]) == 0
    (path,) = Path("outputs").glob("*/record.json")
    before = path.read_bytes()
    capsys.readouterr()
    assert main(["train", "experiment=smoke", "hardware.threads=1"]) == 0
    assert "finished before" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_a_failed_run_asked_for_again_is_tried_again():
    broken = ["train", "experiment=smoke", "train.learning_rate=1e30", "train.max_grad_norm=null", "method=full"]
    assert main(broken) == 2
    assert main(broken) == 2
    (path,) = Path("outputs").glob("*/record.json")
    assert [attempt["status"] for attempt in records.read_record(path).attempts] == ["failed"]


@pytest.mark.parametrize("keep", Keep, ids=lambda keep: keep.name)
def test_only_the_adapters_asked_for_stay(experiment, keep):
    record = run(experiment(f"keep={keep.name}", "train.evaluate_every=2"))
    assert record.checks["reload"]["passed"]
    kept = {path.name.removeprefix("adapter-").split(".")[0] for path in Path("outputs").glob("*/adapter-*")}
    assert kept == {"both": {"last", "best"}, "best": {"best"}, "last": {"last"}, "none": set()}[keep.name]


def test_stages_go_on_after_the_last_one_learned_whole():
    command = sequence("one", "two")[1:]

    def made(*settings):
        return overrides.checked(command_line.parse([*command, *settings]))

    whole = run(made("output_dir=whole"))
    stage = whole.training["steps"] // 2
    with pytest.raises(KeyboardInterrupt):
        run(made(), extra_sinks=(StopAt(Evaluated, 2 * stage),))  # while the second stage is scored
    record = run(made())
    assert record.attempts[0]["resumed_from_step"] == stage
    assert record.scores == whole.scores
    assert record.training["mean_loss"] == whole.training["mean_loss"]
