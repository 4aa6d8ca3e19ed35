"""The states of a sweep's job: what the files say, and how each state follows another."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from molex_cli.config import run_id
from molex_cli.config.schema import Experiment
from molex_cli.data import same_run
from molex_cli.launching import jobs
from molex_cli.launching.status import JobState, Status, failure, read_status, status_path, write_status
from molex_cli.records import locks, read_record
from molex_cli.records.locks import Resume


@pytest.fixture
def freeze(experiment: Callable[..., Experiment]) -> Callable[..., Path]:
    """Return a function from overrides to the frozen job of a sweep."""

    def make(*settings: str) -> Path:
        path = Path("outputs/sweeps/now/jobs/0000.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        run_id.save_settings(path, experiment("isolate=false", "method=head", *settings))
        return path

    return make


@contextmanager
def runs_that_raise(error: BaseException) -> Iterator[None]:
    """Let every run end with an error."""

    def run_here(*_: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("molex_cli.launching.torchrun.run_here", run_here)
        yield


def test_the_table_has_every_state_and_says_which_are_ends() -> None:
    lines = [line.split("|") for line in (JobState.__doc__ or "").splitlines() if line.strip().startswith("|")][2:]
    said = {cells[1].strip(): cells[2].strip() for cells in lines}
    assert said == {state.value: "yes" if state.is_end else "no" for state in JobState}


def test_a_status_file_has_plain_words_and_is_read_back(tmp_path: Path) -> None:
    job = tmp_path / "0000.json"
    status = Status(JobState.not_started, error="stopped")
    write_status(job, status)
    assert json.loads(status_path(job).read_text()) == {
        "state": "not started",
        "folder": None,
        "score": None,
        "metric": None,
        "seconds": 0.0,
        "error": "stopped",
        "ran": False,
        "degenerate": [],
    }
    assert read_status(job) == status
    status_path(job).write_text('{"state": "finished", "folder": "a"}')
    assert read_status(job) == Status(JobState.finished, "a")
    assert read_status(tmp_path / "0001.json") == Status(JobState.waiting)


def test_a_job_waits_runs_and_finishes(freeze: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    job, written = freeze(), []

    def write(job: Path, status: Status) -> None:
        written.append(status.state)
        write_status(job, status)

    monkeypatch.setattr(jobs, "write_status", write)
    assert read_status(job).state is JobState.waiting
    status = jobs.run_frozen(job)
    assert written == [JobState.running, JobState.finished]
    assert read_status(job) == status
    assert (status.ran, status.metric, status.error) == (True, "accuracy", None)
    assert status.seconds > 0
    assert not jobs.is_running(job)


def test_a_run_that_ended_before_is_not_run_again(freeze: Callable[..., Path]) -> None:
    job = freeze()
    jobs.write_earlier_end(job, run_id.load_settings(job))
    assert not status_path(job).exists()  # nothing has ended yet: the job waits
    jobs.run_frozen(job)
    status_path(job).unlink()
    jobs.write_earlier_end(job, run_id.load_settings(job))
    assert (read_status(job).state, read_status(job).ran) == (JobState.finished, False)
    status_path(job).unlink()
    status = jobs.run_frozen(job)  # it may end between the freezing and the start
    assert (status.state, status.ran) == (JobState.finished, False)


def test_a_run_of_another_process_is_elsewhere(freeze: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    job = freeze()
    other = same_run.acquired(run_id.load_settings(job))
    without_waiting = locks.acquire("outputs", other.folder.name, Resume.missing, wait=0)
    monkeypatch.setattr(same_run, "acquired", lambda _: without_waiting)
    status = jobs.run_frozen(job)
    other.release()
    assert (status.state, status.ran, status.folder) == (JobState.elsewhere, False, str(other.folder))


def test_an_error_before_a_run_has_a_record_is_its_failure(freeze: Callable[..., Path]) -> None:
    with runs_that_raise(ValueError("no luck")):
        status = jobs.run_frozen(freeze())
    assert (status.state, status.error, status.ran) == (JobState.failed, "no luck", True)
    assert not (Path("outputs/sweeps/now") / jobs.STOP).exists()
    assert failure(ValueError()).error == "ValueError"


def test_a_failure_stops_the_sweep_where_that_is_asked(freeze: Callable[..., Path]) -> None:
    with runs_that_raise(ValueError("no luck")):
        assert jobs.run_frozen(freeze("fail_fast=true")).state is JobState.failed
    status = jobs.run_frozen(freeze("seed=1"))
    assert (status.state, status.error, status.ran) == (JobState.not_started, jobs.STOPPED, False)


def test_what_a_cluster_interrupts_and_queues_again_ends_in_its_own_folder(freeze: Callable[..., Path]) -> None:
    job = freeze("resume=never")  # a job of its own would get a new folder
    with runs_that_raise(KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        jobs.run_frozen(job)
    before = read_status(job)
    assert (before.state, before.ran) == (JobState.interrupted, True)
    status = jobs.run_frozen(job)
    assert (status.state, status.folder) == (JobState.finished, before.folder)


def test_a_job_whose_launcher_is_gone_gets_an_end(freeze: Callable[..., Path]) -> None:
    job = freeze()
    jobs.settle_abandoned(job)
    assert read_status(job) == Status(JobState.not_started)
    lock = same_run.acquired(run_id.load_settings(job))
    write_status(job, Status(JobState.running, str(lock.folder), ran=True))
    assert jobs.is_running(job)
    jobs.settle_abandoned(job)
    assert read_status(job).state is JobState.running  # somebody still works on it
    lock.release()
    jobs.settle_abandoned(job)
    assert read_status(job) == Status(JobState.interrupted, str(lock.folder), ran=True)
    jobs.settle_abandoned(job)
    assert read_status(job).state is JobState.interrupted


def test_a_record_of_a_run_that_was_killed_says_so_once_it_is_settled(freeze: Callable[..., Path]) -> None:
    job = freeze()
    folder = Path(jobs.run_frozen(job).folder or "")
    content = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(content | {"status": "running"}))
    write_status(job, Status(JobState.running, str(folder), ran=True))
    jobs.settle_abandoned(job)
    status = read_status(job)
    assert (status.state, status.ran) == (JobState.interrupted, True)
    assert status.error is None  # who ended the launcher knows
    assert "killed together with its launcher" in str(read_record(folder).error)
