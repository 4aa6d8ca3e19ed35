"""What a sweep says at its end: means by arm, reasons, what a search found, and commands that run as printed."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from support.made_records import leave
from support.sweeps import presets

from molex_cli import records
from molex_cli.cli import main
from molex_cli.compare.collapse import CONSTANT, NO_BETTER
from molex_cli.compare.loading import load
from molex_cli.config import command_line, overrides
from molex_cli.config.sweeps import typed
from molex_cli.errors import DivergedError
from molex_cli.launching.ending import Ending
from molex_cli.launching.status import JobState, status_of_record
from molex_cli.launching.winner import winners

RATES = ["experiment=smoke", "method=lora", "train.learning_rate=1e-3,1e-2,1.0", "seed=0,1"]


def swept(*settings):
    """Return the jobs of a sweep that was typed, and its line."""
    line = command_line.parse(["-m", *settings])
    return overrides.jobs(line)[0], line


def ended(settings, *shares, selection=(), **changed):
    """Return the end of a sweep whose runs never were, with these shares of right predictions; None is a failure."""
    jobs, line = swept(*settings)
    found = []
    for number, (job, share) in enumerate(zip(jobs, shares, strict=True)):
        folder = Path("outputs") / f"run{number}"
        variant = {"variant": " ".join(job.arm), **changed.get(str(number), {})}
        if share is None:
            error = {"type": DivergedError.__name__, "message": "loss must be finite,\ngot nan", "traceback": ""}
            variant |= {"status": "failed", "error": error}
        train = {"epochs": 1.0, "learning_rate": job.experiment.train.learning_rate}
        record = leave(folder, "lora", job.experiment.seed, share or 0.0, settings={"train": train}, **variant)
        if selection:
            record.scores["last"]["selection"] = {"accuracy": selection[number]}
            records.write_record(folder, record)
        status = status_of_record(folder, record, JobState(record.status))
        found.append(replace(status, ran=True))
    return Ending(jobs, found), line


def test_means_by_arm_have_spread_and_the_seeds_that_finished_of_those_that_were_asked_for():
    ending, _ = ended(RATES, 0.6, 0.6, 0.8, None, None, None)
    first, second, third = ending.means()
    assert first[:2] == ["train.learning_rate=0.001", "accuracy %"]
    mean, _, spread = first[2].split()
    assert 50 < float(mean) < 70
    assert float(spread) > 0
    assert first[3] == "2"
    assert second[3] == "1 of 2"
    assert third == ["train.learning_rate=1.0", "", "–", "0 of 2", "–"]


def test_a_sweep_without_seeds_has_no_means():
    ending, _ = ended(["experiment=smoke", "method=lora", "train.learning_rate=1e-3,1e-2"], 0.6, 0.7)
    assert ending.means() == []


def test_each_reason_is_told_once_with_the_seeds_of_each_arm():
    constant = {"degenerate": [CONSTANT]}
    ending, _ = ended(RATES, 0.6, 0.05, 0.6, 0.6, None, None, **{"2": constant, "3": constant})
    assert list(ending.reasons()) == [
        f"collapsed  train.learning_rate=0.001 seed=1  {NO_BETTER}",
        f"collapsed  train.learning_rate=0.01 seed=0,1  {CONSTANT}",
        "diverged  train.learning_rate=1.0 seed=0,1  loss must be finite, got nan",
    ]


def test_a_run_that_is_degenerate_without_a_collapse_is_called_so():
    dead = {"degenerate": ["2 trainable tensors got no gradient: a, b"]}
    ending, _ = ended(["experiment=smoke", "seed=0,1"], 0.6, 0.6, **{"1": dead})
    assert list(ending.reasons()) == ["degenerate  seed=1  2 trainable tensors got no gradient: a, b"]


def test_the_best_of_a_search_comes_with_the_command_that_runs_it_on_seeds_that_chose_nothing():
    ending, line = ended(RATES, 0.6, 0.6, 0.9, 0.9, None, None)
    first, _, command = winners(ending, line)
    assert first.startswith("best of 3 settings  train.learning_rate=0.01  accuracy 0.9")
    assert "on the rows that are reported, which flatters it" in first
    program, train, *arguments = shlex.split(command)
    assert (program, train) == ("molex", "train")
    again, _ = overrides.jobs(command_line.parse(arguments))
    assert [job.experiment.seed for job in again] == [2, 3, 4]
    assert {job.experiment.train.learning_rate for job in again} == {0.01}
    assert {job.experiment.method.name for job in again} == {"lora"}


def test_rows_that_were_set_apart_choose_the_best():
    ending, line = ended(RATES, 0.6, 0.6, 0.9, 0.9, 0.7, 0.7, selection=(0.8, 0.9, 0.1, 0.2, 0.3, 0.3))
    first, *_ = winners(ending, line)
    assert first.startswith("best of 3 settings  train.learning_rate=0.001  accuracy 0.8500 on the rows that train.sel")


def test_a_setting_with_a_failed_seed_wins_nothing_and_methods_have_a_best_each():
    search = ["experiment=smoke", "method=lora,mola_inverted", "method.rank=2,4", "seed=5"]
    ending, line = ended(search, 0.6, None, 0.6, 0.7)
    told = [text for text in winners(ending, line) if text.startswith("best")]
    assert [text.partition("  accuracy")[0] for text in told] == [
        "best of 2 settings of method=lora  method.rank=2",
        "best of 2 settings of method=mola_inverted  method.rank=4",
    ]
    commands = [shlex.split(text) for text in winners(ending, line) if text.startswith("  molex")]
    assert commands[1][2:] == ["-m", "experiment=smoke", "method=mola_inverted", "method.rank=4", "seed=6,7,8"]


def test_where_all_collapsed_nothing_is_best_and_methods_alone_are_no_search():
    ending, line = ended(RATES, *[0.05] * 6)
    assert list(winners(ending, line)) == ["no best of 3 settings: every run that finished collapsed"]


def test_methods_alone_are_no_search():
    ending, line = ended(["experiment=smoke", "method=lora,head"], 0.6, 0.7)
    assert list(winners(ending, line)) == []


@pytest.mark.parametrize("value", ["a,b", "it's", "[INST]", "1e-3", "null", "x y", "${a}", "", "True"])
def test_a_value_is_typed_so_that_it_is_read_as_it_is(value):
    text = typed(f"log.project={value}")
    given, problems = overrides.parsed([text])
    assert not problems
    assert not given[0].is_sweep_override()
    found = given[0].value()
    assert (found == value) or text == f"log.project={value}"


def test_a_sweep_ends_with_a_command_that_runs_as_printed(capfd):
    presets({"fine": {}, "nan": {"train": "learning_rate: 1.0e+30, max_grad_norm: null"}})
    folder = "output_dir='the first $one'"
    sweep = ["train", "-m", "-cd", "mine", "experiment=fine,nan", "train.weight_decay=0,0.5", "seed=0,1", folder]
    assert main(sweep) == 1
    said = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in said if line.startswith(("diverged", "collapsed"))].count("diverged") == 1
    printed = said[said.index("compare them:") + 1]
    program, *arguments = shlex.split(printed)
    assert program == "molex"
    assert arguments[-2:] == ["--rows", "method,train.weight_decay"]
    assert main([*arguments, "--format", "csv"]) == 0
    table = capfd.readouterr().out
    assert table.count('"lora train.weight_decay=') == 2
    # What the sweep did not run is not in it, and a second one with more seeds has these too.
    assert main([*(each if not each.startswith("seed") else "seed=0,1,2" for each in sweep)]) == 1
    latest = sorted(Path("the first $one/sweeps").iterdir())[-1]
    assert len(load([latest]).runs) == 6
    assert len(load([Path(arguments[1])]).runs) == 4
    assert "there already: 4 finished, 4 failed; to run: 4 of 12" in capfd.readouterr().out


def test_the_runs_of_a_sweep_are_found_from_anywhere(monkeypatch):
    assert main(["train", "-m", "experiment=smoke", "method=head", "seed=0,1"]) == 0
    (sweep,) = Path("outputs/sweeps").iterdir()
    (sweep / "jobs" / "0001.status.json").write_text('{"folder": ')
    assert [run.folder.parent for run in load([sweep]).runs] == [Path("outputs")]
    Path("outputs").rename("moved")
    monkeypatch.chdir("moved/sweeps")
    (found,) = load([Path(sweep.name)]).runs
    assert found.folder.name.endswith("-s0")
