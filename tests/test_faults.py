"""At every file operation a run may be killed or find the disk full: the next start ends as one that was left alone."""

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.faults import go

from molex_cli import records

TRAIN = ["train", "experiment=smoke", "method=lora", "log.wandb=disabled", "hardware.threads=1", "keep=last"]
TRAIN += ["train.max_steps=3", "train.evaluate_every=2", "checkpoint_every=1", "train.max_rows=24"]
SAMPLE = 4  # of the points of each kind that the ordinary suite tries


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Return a function that runs a command in a process of its own and returns its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["molex_cli.launching.preload"])
    cache = tmp_path_factory.mktemp("cache")

    def run(folder, how="count", at=0, arguments=TRAIN):
        folder.mkdir(exist_ok=True)
        environment = {"MOLEX_CACHE": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        process = context.Process(target=go, args=(arguments, folder, environment, how, at))
        process.start()
        process.join()
        return process.exitcode

    return run


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory):
    """Return the folder of a run that was left alone."""
    folder = tmp_path_factory.mktemp("alone")
    assert start(folder) == 0  # the first one fills the cache
    shutil.rmtree(folder / "outputs")
    assert start(folder) == 0
    return folder


def left(folder):
    """Return what a run left, but for times: its files, tensors, predictions, losses and scores."""
    (path,) = (folder / "outputs").glob("*/record.json")
    events = [json.loads(line) for line in (path.parent / "events.jsonl").read_text().splitlines()]
    record = json.loads(path.read_text())
    training = {name: value for name, value in record["training"].items() if "second" not in name}
    return {
        "files": sorted(str(each.relative_to(folder)) for each in (folder / "outputs").rglob("*")),
        "tensors": {p.name: tensors_of(p) for p in path.parent.glob("*.safetensors")},
        "predictions": [(path.parent / f"predictions-{which}.jsonl").read_text() for which in ("last", "best")],
        "events": [(e["event"], e["step"], e["loss"]) for e in events if "loss" in e],
        "end": (events[-1]["event"], events[-1]["status"], record["status"]),
        "record": (training, record["scores"], record["checks"], record["routing"], record["data"]),
    }  # fmt: skip


def tensors_of(path):
    return {name: tensor.tolist() for name, tensor in load_file(path).items()}


def points(start, folder, how):
    """Return at how many operations something may happen."""
    assert start(folder, how, 10**9) == 0
    return len((folder / "operations").read_text().splitlines())


def sample(count, size):
    """Return some numbers from 1 to count, the last ones among them: there the most is at stake."""
    return sorted({1 + round(i * (count - 1) / (size - 1)) for i in range(size)} | {count - 1})


def killed_at_each(start, alone, tmp_path, numbers):
    for at in numbers:
        folder = tmp_path / str(at)
        assert start(folder, "kill", at) == -9
        assert start(folder) == 0, (folder / "shown").read_text()
        assert left(folder) == left(alone), f"killed at operation {at}"
        shutil.rmtree(folder)


def full_at_each(start, alone, tmp_path, how, numbers):
    for at in numbers:
        folder = tmp_path / str(at)
        code, shown = start(folder, how, at), (folder / "shown").read_text()
        assert "Traceback" not in shown, f"{how} at operation {at}: {shown}"
        assert code in (0, 2), shown
        if code:
            assert len([line for line in shown.splitlines() if "must have room for what is written" in line]) == 1, (
                shown
            )
            assert start(folder) == 0
        assert left(folder) == left(alone), f"{how} at operation {at}"
        shutil.rmtree(folder)


def number_of_operations(alone):
    return len((alone / "operations").read_text().splitlines())


def test_a_run_killed_at_an_operation_ends_as_one_left_alone(start, alone, tmp_path):
    killed_at_each(start, alone, tmp_path, sample(number_of_operations(alone), SAMPLE))


@pytest.mark.parametrize("how", ["once", "full"])
def test_a_run_without_room_at_an_operation_says_so_and_resumes(start, alone, tmp_path, how):
    full_at_each(start, alone, tmp_path, how, sample(points(start, tmp_path / "counted", how), 3))


@pytest.mark.slow
def test_a_run_killed_at_every_operation_ends_as_one_left_alone(start, alone, tmp_path):
    killed_at_each(start, alone, tmp_path, range(1, number_of_operations(alone) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["once", "full"])
def test_a_run_without_room_at_every_operation_says_so_and_resumes(start, alone, tmp_path, how):
    full_at_each(start, alone, tmp_path, how, range(1, points(start, tmp_path / "counted", how) + 1))


def test_what_a_killed_run_could_not_tidy_the_next_start_does(start, alone, tmp_path):
    operations = (alone / "operations").read_text().splitlines()
    (state,) = [i for i, each in enumerate(operations, 1) if each == "os.remove progress.safetensors"]
    assert start(tmp_path, "kill", state) == -9
    (path,) = tmp_path.glob("outputs/*/record.json")
    assert records.read_record(path.parent).status == "finished"
    assert (path.parent / "progress.safetensors").exists()
    before = path.read_bytes()
    assert start(tmp_path) == 0
    assert path.read_bytes() == before  # it is not run again
    assert left(tmp_path) == left(alone)
    assert Path(tmp_path / "shown").read_text().count("finished before") == 1
