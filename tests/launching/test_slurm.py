"""Sweeps on a real Slurm of one node: `make test-slurm` (Debian packages slurm-wlm and munge)."""

import shutil
import subprocess
import threading
import time

import pytest
from slurm_node import one_node
from support.sweeps import all_records, expect_one_of_each_kind, folder_of, one_of_each_kind, presets, statuses

from molex_cli.cli import main

pytestmark = pytest.mark.slurm
SMALL = ["hydra.launcher.gpus_per_node=null", "hydra.launcher.mem_gb=null", "hydra.launcher.cpus_per_task=1"]
SLURM = ["hardware=slurm", "hydra.launcher.timeout_min=10", *SMALL]


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """Let this test's Slurm commands find a cluster of its own."""
    if not shutil.which("slurmctld"):
        pytest.skip("slurmctld is not installed")
    with one_node(tmp_path_factory.mktemp("slurm")) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield


def test_slurm_runs_an_array_and_isolates_what_fails(slurm, capfd):
    code = one_of_each_kind(*SLURM)
    expect_one_of_each_kind(code, capfd.readouterr().out)


def test_a_cancelled_job_is_interrupted_and_the_same_command_goes_on_with_it(slurm, capfd):
    presets({"fine": {}, "killed": {"train": "max_steps: 300, epochs: 300"}})
    command = ["train", "-m", "-cd", "mine", "experiment=killed,fine", "checkpoint_every=20", *SLURM]

    def cancel():
        events = folder_of("experiment=killed") / "events.jsonl"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (events.exists() and '"step": 21,' in events.read_text()):
            time.sleep(0.1)
        names = subprocess.run(["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True).stdout.split()
        subprocess.run(["scancel", next(name for name in names if name.endswith("_0"))], check=True)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    assert main(command) == 1
    canceller.join()
    assert [status.state for status in statuses()] == ["interrupted", "finished"]
    assert main(command) == 0
    assert [(status.state, status.ran) for status in statuses()] == [("finished", True), ("finished", False)]
    (went_on,) = [record for record in all_records().values() if record["attempts"]]
    assert went_on["attempts"][0]["resumed_from_step"] >= 20


def test_one_run_may_be_sent_to_slurm_too(slurm):
    assert main(["train", "experiment=smoke", *SLURM]) == 0
    assert [status.state for status in statuses()] == ["finished"]
