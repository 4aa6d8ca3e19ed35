"""A sweep survives: what fails stays alone, what is missing is all that runs again, what is edited changes nothing."""

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.runs import outcome
from support.sweeps import all_records, expect_one_of_each_kind, folder_of, one_of_each_kind, presets, statuses

from molex_cli import records
from molex_cli.cli import main
from molex_cli.config import command_line, overrides, run_id
from molex_cli.launching import devices, view
from molex_cli.launching.status import JobState, Status, read_status, write_status
from molex_cli.runtime.terminal import Terminal


def test_a_job_that_ends_badly_in_any_way_leaves_the_others_alone(capfd):
    code = one_of_each_kind()
    expect_one_of_each_kind(code, capfd.readouterr().out)
    # What failed stays so, until it is asked for.
    assert main(["train", "-m", "-cd", "mine", "experiment=fine,nan"]) == 1
    shown = capfd.readouterr().out
    assert [(status.state, status.ran) for status in statuses()] == [("finished", False), ("failed", False)]
    assert "resume=failed tries again what failed before" in shown
    assert main(["train", "-m", "-cd", "mine", "experiment=fine,nan", "resume=failed"]) == 1
    assert [(status.state, status.ran) for status in statuses()] == [("finished", False), ("failed", True)]
    assert len(records.read_record(folder_of("experiment=nan")).attempts) == 1


def test_joblib_runs_several_at_once_and_isolates_them_too(capfd):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    code = one_of_each_kind("hardware=pool")
    expect_one_of_each_kind(code, capfd.readouterr().out)


def test_fail_fast_starts_nothing_after_a_failure(capfd):
    presets()
    assert main(["train", "-m", "-cd", "mine", "experiment=fine,nan,settings", "fail_fast=true"]) == 1
    assert [status.state for status in statuses()] == ["finished", "failed", "not started"]
    assert "the sweep was stopped, by a failure with fail_fast" in capfd.readouterr().out
    assert main(["train", "-m", "-cd", "mine", "experiment=settings,fine"]) == 1
    assert [(status.state, status.ran) for status in statuses()] == [("failed", True), ("finished", False)]


SIX = [
    "experiment=smoke",
    "train.max_steps=null",
    "train.epochs=3",
    "train.batch_size=2",
    "train.evaluate_every=9",
]
SIX += [
    "checkpoint_every=4",
    "method=lora,mola_inverted,molex",
    "seed=0,1",
    "train.gradient_accumulation_steps=2",
]


def kill_within_a_run(sweep, after):
    """Kill a sweep dead in the middle of a run that can go on, once so many are finished."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert sweep.poll() is None, "the sweep ended before it could be killed"
        found = {path.parent: records.read_record(path.parent) for path in Path("outputs").glob("*/record.json")}
        running = [folder for folder, record in found.items() if record.status == "running"]
        if sum(record.status == "finished" for record in found.values()) >= after and running:
            os.kill(sweep.pid, signal.SIGSTOP)
            (folder, *_), job = running, found[running[0]].environment["pid"]
            with suppress(ProcessLookupError):
                os.kill(job, signal.SIGSTOP)
                time.sleep(0.05)  # until the signals have arrived
                # Both stand still: what is true now is true when they are killed.
                if (folder / "progress.safetensors").exists() and records.read_record(folder).status == "running":
                    os.kill(job, signal.SIGKILL)
                    sweep.kill()
                    sweep.wait()
                    return
                os.kill(job, signal.SIGCONT)
            os.kill(sweep.pid, signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("no run was caught in the middle")


def test_a_sweep_killed_dead_goes_on_with_exactly_what_is_missing(tmp_path, monkeypatch, capfd):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    for folder in (alone, killed):
        folder.mkdir()
    monkeypatch.chdir(killed)
    log = (killed / "log.txt").open("w")
    process = subprocess.Popen([sys.executable, "-m", "molex_cli", "train", "-m", *SIX], stdout=log, stderr=log)
    kill_within_a_run(process, after=2)
    before = all_records()
    assert main(["train", "-m", *SIX]) == 0
    ran = [Path(status.folder).name for status in statuses() if status.ran]
    assert len(ran) == 6 - sum(record["status"] == "finished" for record in before.values())
    after = all_records()
    assert len(after) == 6
    for name, record in before.items():
        if record["status"] == "finished":
            assert after[name] == record
    went_on = [record for record in after.values() if record["attempts"]]
    assert [record["attempts"][0]["status"] for record in went_on] == ["interrupted"]
    assert went_on[0]["attempts"][0]["resumed_from_step"] > 0

    monkeypatch.chdir(alone)
    name = next(name for name, record in after.items() if record["attempts"])
    one = [f"method={went_on[0]['settings']['method']['name']}", f"seed={went_on[0]['seed']}"]
    fixed = [setting for setting in SIX if not setting.startswith(("method=", "seed="))]
    assert main(["train", *fixed, *one]) == 0
    for path in (killed / "outputs").iterdir():  # `outcome` looks at one run
        if path.name != name and (path / "record.json").exists():
            (path / "record.json").unlink()
    assert outcome(killed) == outcome(alone)


def test_ctrl_c_ends_a_sweep_in_good_order(tmp_path):
    presets()
    command = [sys.executable, "-m", "molex_cli", "train", "-m", "-cd", "mine", "experiment=fine,killed,nan"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    events = folder_of("experiment=killed") / "events.jsonl"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (events.exists() and '"event": "step"' in events.read_text()):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [status.state for status in statuses()] == ["finished", "interrupted", "not started"]
    assert "interrupted; the same command resumes with what is missing" in shown
    assert records.read_record(events.parent).status == "interrupted"


def test_editing_a_yaml_changes_no_job_of_a_running_sweep():
    presets()
    path = Path("mine/experiment/fine.yaml")

    def edit():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not all_records():
            time.sleep(0.01)
        path.write_text("this is: [no yaml")

    editor = threading.Thread(target=edit)
    editor.start()
    assert main(["train", "-m", "-cd", "mine", "experiment=fine", "seed=0,1,2"]) == 0
    editor.join()
    assert path.read_text() == "this is: [no yaml"
    assert len({record["variant"] for record in all_records().values()}) == 1
    assert {record["status"] for record in all_records().values()} == {"finished"}


def test_two_sweeps_over_the_same_jobs_run_none_twice():
    command = [sys.executable, "-m", "molex_cli", "train", "-m", "experiment=smoke", "method=lora,head", "seed=0,1"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        process.communicate(timeout=200)
        assert process.returncode == 0
    found = all_records()
    assert len(found) == 4
    assert not [name for name in found if name.endswith(".2")]
    for name, record in found.items():
        assert (record["status"], record["attempts"]) == ("finished", [])
        events = (Path("outputs") / name / "events.jsonl").read_text().splitlines()
        assert sum(json.loads(line)["event"] == "step" for line in events) == 4
    sweeps = [
        [read_status(path) for path in (folder / "jobs").glob("????.json")]
        for folder in Path("outputs/sweeps").iterdir()
    ]
    assert len(sweeps) == 2
    assert sum(status.ran and status.state == "finished" for sweep in sweeps for status in sweep) == 4


def test_each_job_measures_its_own_memory():
    assert main(["train", "-m", "experiment=smoke", "method=full", "model.config.hidden_size=1024,32"]) == 0
    found = {record["parameters"]["total"]: record["memory_bytes"]["cpu"] for record in all_records().values()}
    small, big = sorted(found)
    assert found[small] < found[big] - 4 * (big - small)  # the first job was the big one


def test_without_isolation_jobs_run_in_the_process_of_the_sweep():
    assert main(["train", "-m", "experiment=smoke", "isolate=false", "seed=0,1"]) == 0
    assert {record["environment"]["pid"] for record in all_records().values()} == {os.getpid()}


def test_jobs_lease_devices_by_the_names_they_have(tmp_path):
    holding, most = [], []

    def work():
        with devices.lease(["0", "MIG-x/1"], 2, tmp_path) as device:
            holding.append(device)
            most.append((len(holding), max(holding.count(each) for each in holding)))
            time.sleep(0.05)
            holding.remove(device)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 10
    assert max(count for count, _ in most) == 4
    assert max(count for _, count in most) == 2
    with devices.lease([], 1, tmp_path) as device:
        assert device is None


def test_a_job_sees_only_the_device_it_leased(monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setenv("TMPDIR", str(Path.cwd()))
    leased = ["hardware=pool", "hardware.device=cpu", 'hardware.devices=["6","7"]', "hardware.jobs_per_device=1"]
    assert main(["train", "-m", "experiment=smoke", "method=head", "seed=0,1,2,3", *leased]) == 0
    seen = [record["environment"]["hardware"]["visible_devices"] for record in all_records().values()]
    assert set(seen) == {"6", "7"}


def test_the_live_view_counts_and_names_what_runs(tmp_path):
    paths = [tmp_path / f"{number:04}.json" for number in range(4)]
    write_status(paths[0], Status(JobState.finished, "a", score=0.5, metric="accuracy", ran=True))
    write_status(paths[1], Status(JobState.failed, "b", error="no luck", ran=True))
    write_status(paths[2], Status(JobState.running, "c", ran=True))
    terminal = Terminal(force_terminal=True, width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with view.View(paths, ["one", "two", "three", "four"], terminal) as shown:
        assert [status.state for status in shown.statuses] == ["finished", "failed", "running", "waiting"]
        terminal.print(shown._shown())
    text = terminal.export_text()
    for words in ("running  three", "2 of 4 done, 1 failed", "left", "[2/4] failed  two  no luck"):
        assert words in text


def test_the_table_shows_what_is_written_after_an_end(tmp_path, capsys):
    """The process of a run writes its error first; the time comes with the end of that process."""
    terminal = Terminal(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    shown = view.View([tmp_path / "0000.json"], ["one"], terminal)
    for seconds in (0.0, 7.0):
        write_status(tmp_path / "0000.json", Status(JobState.failed, "a", error="no luck", ran=True, seconds=seconds))
        shown.update()
    shown.show_end()
    text = terminal.export_text() + capsys.readouterr().out
    assert text.count("[1/1] failed  one  no luck") == 1
    assert "7 s" in text


def test_an_optimising_sweeper_gets_the_score(capfd):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "method.rank=choice(2,4)"]
    assert main(["train", "-m", "experiment=smoke", "method=lora", "seed=range(0,3)", *search]) == 0
    found = all_records()
    assert {record["status"] for record in found.values()} == {"finished"}
    (result,) = Path("outputs/sweeps").glob("*/optimization_results.yaml")
    best = max(record["scores"]["last"]["scores"]["accuracy"] for record in found.values())
    assert f"best_value: {best}" in result.read_text()
    told, _, command = capfd.readouterr().out.splitlines()[-3:]
    assert told.startswith("best of all trials  method.rank=")
    assert f"  accuracy {best:.4f} on the rows that are reported" in told
    again, line = overrides.jobs(command_line.parse(shlex.split(command)[2:]))
    assert [job.experiment.seed for job in again] == [3, 4, 5]  # 0, 1 and 2 were drawn
    assert {f"method.rank={job.experiment.method.rank}" for job in again} == {told.split()[4]}
    assert not any("sweeper" in text for text in line.overrides)


def test_rows_that_were_set_apart_lead_an_optimising_sweeper(capfd):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "seed=choice(0,1)"]
    assert main(["train", "-m", "experiment=smoke", "method=lora", "train.selection=15", *search]) == 0
    scores = [record["scores"]["last"] for record in all_records().values()]
    (result,) = Path("outputs/sweeps").glob("*/optimization_results.yaml")
    best = max(score["selection"]["accuracy"] for score in scores)
    assert best not in [score["scores"]["accuracy"] for score in scores]  # of fifteenths and of sixty-fourths
    assert f"best_value: {best}" in result.read_text()


def test_a_stored_study_that_is_killed_goes_on_until_it_has_its_trials(tmp_path, capfd):
    optuna = pytest.importorskip("optuna")
    study = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    study += ["hydra.sweeper.storage=sqlite:///study.db", "hydra.sweeper.study_name=mine", "isolate=false"]
    search = ["train", "-m", "experiment=smoke", "method=head", "train.max_steps=1", "seed=choice(0,1,2)", *study]

    def count_done():
        """Look without optuna, which would make tables that the search is just making."""
        with closing(sqlite3.connect("file:study.db?mode=ro", uri=True)) as database:
            return database.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]

    def trials():
        found = optuna.load_study(study_name="mine", storage="sqlite:///study.db").trials
        return [trial for trial in found if trial.state is optuna.trial.TrialState.COMPLETE]

    process = subprocess.Popen([sys.executable, "-m", "molex_cli", *search], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(sqlite3.OperationalError):  # the database is not there yet, or is being written
            if count_done():
                break
        time.sleep(0.1)
    process.kill()
    process.wait()
    before = trials()
    assert 1 <= len(before) <= 3
    assert main(search) == 0
    assert len(trials()) == 3
    assert [trial.number for trial in trials()[: len(before)]] == [trial.number for trial in before]
    capfd.readouterr()
    assert main(search) == 0
    assert "the study mine has 3 trials; raise hydra.sweeper.n_trials for more" in capfd.readouterr().out
    assert len(trials()) == 3


def test_what_a_stored_study_lacks_is_told_in_one_line(capsys):
    pytest.importorskip("optuna")
    search = ["train", "-m", "experiment=smoke", "hydra/sweeper=optuna", "seed=0,1"]
    for storage, name, says in (
        ("sqlite:///study.db", "", "hydra.sweeper.study_name must name the study in hydra.sweeper.storage, got none"),
        ("study.db", "mine", "hydra.sweeper.storage must be the address of a database, such as sqlite:///study.db"),
        ("sqlite:///not/there/study.db", "mine", "(unable to open database file)"),
    ):
        given = [f"hydra.sweeper.storage={storage}", *([f"hydra.sweeper.study_name={name}"] if name else [])]
        assert main([*search, *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says.strip("()") in line


def test_what_comes_before_a_run_is_told_too(capfd):
    """A file in the way of one run, a record that cannot be read: the others run."""
    folder = Path("outputs")
    for seed in (0, 1):
        name = run_id.run_name(overrides.checked(command_line.parse(["experiment=smoke", f"seed={seed}"])))
        path = folder / name.replace("/", "-")
        if seed == 0:
            folder.mkdir()
            path.write_text("in the way")
        else:
            path.mkdir()
            (path / "record.json").write_text("{")
    assert main(["train", "-m", "experiment=smoke", "seed=0,1,2"]) == 1
    found = statuses()
    assert [status.state for status in found] == ["failed", "failed", "finished"]
    assert "output_dir must be a folder that can be written to" in found[0].error
    assert "is not the record of a run, or is damaged" in found[1].error
    assert "resume=never starts over beside it" in found[1].error


def test_a_refusal_to_go_on_leaves_an_interrupted_run_as_it_was(experiment, capfd):
    from support.runs import interrupted

    interrupted(experiment, "checkpoint_every=1", "train.max_steps=6")
    (path,) = Path("outputs").glob("*/record.json")
    before = path.read_bytes()
    command = ["train", "-m", "experiment=smoke", "checkpoint_every=1", "train.max_steps=6"]
    assert main([*command, "hardware.activation_checkpointing=true"]) == 1
    (status,) = statuses()
    assert status.state == "failed"
    assert "must resume as it began, got hardware.activation_checkpointing: False -> True" in status.error
    assert path.read_bytes() == before
    capfd.readouterr()
    assert main([*command, "hardware=auto"]) == 0  # the same device by another name
    assert "there already: 1 interrupted; to run: 1 of 1" in capfd.readouterr().out


def test_odd_texts_and_lists_go_through_a_sweep_unchanged(capfd):
    values = 'log.project="[INST] a [/INST]","[b]"'
    lists = 'method.targets=["query"],["value","key"]'
    assert main(["train", "-m", "experiment=smoke", "method=lora", values, lists]) == 0
    shown = capfd.readouterr().out
    assert "log.project=[INST] a [/INST]" in shown[shown.index("job ") :]
    found = {tuple(record["settings"]["method"]["targets"]) for record in all_records().values()}
    assert found == {("query",), ("value", "key")}
