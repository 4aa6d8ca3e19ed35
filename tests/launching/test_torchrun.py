"""One run on several processes is the run that one process does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.data.batches import microbatches

STILL = ["model.config.attention_probs_dropout_prob=0", "model.config.hidden_dropout_prob=0"]
SMOKE = ["experiment=smoke", "train.max_steps=9", "train.max_rows=61", "train.evaluate_every=3", "data_dir=null"]
TWO = ["hardware.device=cpu", "hardware.processes=2", "hardware.threads=1"]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("rows", "size"), [(16, 4), (16, 3), (1, 4), (5, 2), (12, 12)])
def test_every_row_of_an_effective_batch_is_counted_once(rows, size, world):
    sharded = [microbatches(range(rows), size, rank, world) for rank in range(world)]
    assert len({len(own) for own in sharded}) == 1
    counted = [row for own in sharded for each in own if not each.is_dummy for row in each.rows]
    assert sorted(counted) == list(range(rows))
    assert all(each.rows for own in sharded for each in own)
    whole = [each for own in sharded for each in own if not each.is_split]
    assert all(list(each.rows) == list(range(rows))[each.index * size :][:size] for each in whole)


def told(folder):
    (path,) = Path(folder).glob("*/record.json")
    events = [json.loads(line) for line in (path.parent / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    lines = (path.parent / "predictions-last.jsonl").read_text().splitlines()
    predictions = [(row["id"], row["prediction"]) for row in map(json.loads, lines)]
    return json.loads(path.read_text()), steps, predictions, path.parent


def expect_the_same_run(one, other, loss=1e-6):
    record, steps, predictions, _ = told(one)
    shared, shared_steps, shared_predictions, folder = told(other)
    assert len(list(Path(other).glob("*/record.json"))) == 1
    assert shared["variant"] == record["variant"]
    assert shared["status"] == "finished"
    assert shared["training"]["processes"] == 2
    assert shared["training"]["effective_batch"] == record["training"]["effective_batch"]
    assert [step["tokens"] for step in shared_steps] == [step["tokens"] for step in steps]
    assert [step["loss"] for step in shared_steps] == pytest.approx([step["loss"] for step in steps], abs=loss)
    balances = ([step["balance_loss"] for step in each] for each in (shared_steps, steps))
    assert next(balances) == pytest.approx(next(balances), abs=1e-5)
    assert shared_predictions == predictions
    for layer, figures in record["routing"].items():
        other = shared["routing"][layer]
        assert other["usage"] == pytest.approx(figures["usage"], abs=1e-6)
        for name, module in figures.get("modules", {}).items():
            for figure in ("usage", "gate", "entropy", "effective", "top1", "dead", "logit"):
                assert other["modules"][name][figure] == pytest.approx(module[figure], abs=1e-4), (layer, name, figure)
    assert shared["checks"]["reload"]["max_difference"] < 1e-5
    assert shared["checks"]["gradient_flow"]["passed"] is True
    _, made = adapter.load(folder / "adapter-last.safetensors")
    _, whole = adapter.load(told(one)[3] / "adapter-last.safetensors")
    for name, tensor in whole.trainable().items():
        torch.testing.assert_close(made.trainable()[name], tensor, atol=1e-3, rtol=0, msg=name)


def test_two_processes_that_deal_out_whole_parts_do_the_same_to_the_bit():
    settings = [
        *SMOKE,
        "method=mola_inverted",
        "train.gradient_accumulation_steps=2",
        "train.batch_size=4",
    ]  # dropout is on
    assert main(["train", *settings, "output_dir=one"]) == 0
    assert main(["train", *settings, "hardware=ddp", *TWO, "output_dir=two"]) == 0
    expect_the_same_run("one", "two", loss=0)


def test_two_processes_that_split_each_batch_balance_over_the_whole_of_it():
    settings = [*SMOKE, "method=mola_inverted", "method.dropout=0", *STILL]
    assert main(["train", *settings, "output_dir=one"]) == 0
    assert main(["train", *settings, "hardware=ddp", *TWO, "output_dir=two"]) == 0
    expect_the_same_run("one", "two")


@pytest.mark.parametrize(
    "method", [["method=mola_inverted", "method.dropout=0"], ["method=molex", "method.lora.dropout=0"]]
)
def test_sharded_weights_change_nothing(method):
    settings = [*SMOKE, *method, "method.balance=0.01", *STILL]
    assert main(["train", *settings, "output_dir=one"]) == 0
    assert main(["train", *settings, "hardware=fsdp", *TWO, "output_dir=two"]) == 0
    expect_the_same_run("one", "two")


def test_sharded_decoders_generate_the_same_texts(official_data):
    settings = ["experiment=smoke", "model=tiny_llama", "task=instruct/rte", f"data_dir={official_data}"]
    settings += ["method=molex", "method.lora.dropout=0", "train.max_rows=9", "train.max_length=128"]
    settings += ["train.eval_batch_size=4", "task.language.max_new_tokens=5"]
    assert main(["train", *settings, "output_dir=one"]) == 0
    assert main(["train", *settings, "hardware=fsdp", *TWO, "output_dir=two"]) == 0
    texts = [
        [json.loads(line)["text"] for line in (told(each)[3] / "predictions-last.jsonl").read_text().splitlines()]
        for each in ("one", "two")
    ]
    assert texts[0] == texts[1]


def test_torchrun_of_the_users_own_agrees_on_one_folder():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "molex_cli"]
    again = [*command, "train", "experiment=smoke", "method=lora", "train.gradient_accumulation_steps=2"]
    assert subprocess.run(again, capture_output=True).returncode == 0
    record, *_ = told("outputs")
    assert (record["status"], record["training"]["processes"]) == ("finished", 2)
    done = subprocess.run(again, capture_output=True, text=True)
    assert done.returncode == 0
    assert "finished before" in done.stdout


def test_a_failure_of_a_shared_run_is_recorded_once_and_said_in_one_line(capfd):
    settings = ["experiment=smoke", "train.learning_rate=1e30", "train.max_grad_norm=null", "hardware=ddp", *TWO]
    assert main(["train", *settings]) == 2
    (path,) = Path("outputs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    assert "finite" in record["error"]["message"]
    assert "molex: " in capfd.readouterr().err


def test_shards_need_several_processes_and_something_to_shard(capfd):
    assert main(["train", "experiment=smoke", "hardware=fsdp", "hardware.device=cpu", "hardware.processes=1"]) == 2
    assert "hardware.shard must have several processes" in capfd.readouterr().err


def test_processes_end_with_the_one_that_started_them():
    settings = ["experiment=smoke", "train.max_steps=100000", "train.epochs=100000", "checkpoint_every=20"]
    command = [sys.executable, "-m", "molex_cli", "train", *settings, "hardware=ddp", *TWO]
    launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(Path("outputs").glob("*/progress.safetensors")):
        time.sleep(0.05)
    (path,) = Path("outputs").glob("*/record.json")
    worker = json.loads(path.read_text())["environment"]["pid"]
    launcher.kill()
    launcher.wait()
    time.sleep(2)
    assert not Path(f"/proc/{worker}").exists()
    steps = (path.parent / "events.jsonl").read_text()
    time.sleep(1)
    assert (path.parent / "events.jsonl").read_text() == steps


def ctrl_c(command, has_come):
    """Press Ctrl-C when something has come, and return the lines that were shown."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    launcher = subprocess.Popen(command, start_new_session=True, **pipes)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not has_come():
        time.sleep(0.05)
    os.killpg(launcher.pid, signal.SIGINT)  # as a terminal does
    shown, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    return shown.splitlines()


def test_ctrl_c_ends_all_processes_of_a_run_with_one_line():
    settings = ["experiment=smoke", "train.max_steps=100000", "train.epochs=100000", "log.every=100000"]
    command = [sys.executable, "-m", "molex_cli", "train", *settings, "checkpoint_every=1", "hardware=ddp", *TWO]
    outputs, said = Path("outputs"), []
    said.append(ctrl_c(command, lambda: list(outputs.glob("*/progress.safetensors"))))
    said.append(
        ctrl_c(command, lambda: list(outputs.glob("*/.processes.json")))
    )  # they load; its record is the first's
    for lines in said:
        told = [line for line in lines if "interrupted" in line or "Ctrl-C" in line]
        assert len(told) == 1, lines
        assert "the same command" in told[0]
        assert not [line for line in lines if "Traceback" in line or "torch" in line or "SIG" in line], lines
    assert told[0].startswith("molex: Ctrl-C ended train")
    (path,) = outputs.glob("*/record.json")
    assert json.loads(path.read_text())["status"] == "interrupted"


def test_torchrun_says_how_many_share_the_weights():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "molex_cli"]
    settings = ["experiment=smoke", "method=lora", "hardware=fsdp", "hardware.device=cpu"]
    assert subprocess.run([*command, "train", *settings], capture_output=True).returncode == 0
    assert told("outputs")[0]["training"]["processes"] == 2
