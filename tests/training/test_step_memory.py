"""The planned memory of a training step is what a real step takes."""

import errno
import json
from collections import Counter

import pytest
import torch
from conftest import batch, composed
from step_memory import allocated_by, held, real_steps, settings_of

from molex_cli.cli import main
from molex_cli.errors import ConfigError, MethodError, TrainingError
from molex_cli.runtime.hardware import Device, Hardware, available_memory
from molex_cli.training.memory.fit import FOUR_BIT, RECOMPUTE, fits
from molex_cli.training.memory.rehearsal import Rehearsal
from molex_cli.training.memory.told import memory_errors_told

LABELS = ["no", "yes"]


def rehearsal(experiment, *settings):
    return Rehearsal(experiment("model=tiny_bert", *settings), LABELS)


@pytest.fixture(scope="module")
def lora():
    """Return LoRA on a tiny model; a rehearsal keeps nothing of a step but what it found."""
    return Rehearsal(composed(("model=tiny_bert", "method=lora")), LABELS)


def measured(settings):
    """Return what torch's allocator gives in the third step, and what lives before it."""
    before = held()
    run = real_steps(settings, choices_assumed=True)
    next(run)
    next(run)
    return held() - before + allocated_by(run)


@pytest.mark.parametrize(
    ("method", "recompute"),
    [
        ("lora", False),
        ("lora", True),
        ("mola_inverted", False),
        ("mixlora", False),
        ("mixlora", True),
        ("full", True),
        ("molex", False),
        ("molex", True),
    ],
)
def test_the_plan_is_what_torchs_allocator_gives(experiment, method, recompute):
    settings = [*settings_of("tiny_bert", method, 4, 32, recompute), "hardware.device=cpu"]
    planned = rehearsal(experiment, *settings).step(4).peak
    assert planned == pytest.approx(measured(settings), rel=0.1)


def test_a_language_model_is_planned_too(experiment, official_data):
    settings = ["model=tiny_llama", "method=lora", "task=instruct/rte", f"data_dir={official_data}"]
    memory = Rehearsal(experiment(*settings, "train.max_length=32"), []).step(2)
    assert memory.logits == 2 * 32 * 260 * 4


@pytest.mark.parametrize("method", ["lora", "mola_inverted", "mixlora"])
def test_what_is_kept_is_what_autograd_saves(experiment, adapted, method):
    made = adapted("model=tiny_bert", f"method={method}", "method.dropout=0")
    own = {each.untyped_storage().data_ptr() for each in (*made.model.parameters(), *made.model.buffers())}
    rows = batch(4, 32)
    rows["attention_mask"] = torch.ones_like(rows["attention_mask"])
    saved = Counter()

    def pack(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made.model.train()
        loss = made.model(**rows).loss
    total = sum(count for address, count in saved.items() if address not in own)
    assert loss.requires_grad
    settings = [f"method={method}", "method.dropout=0", "train.max_length=32", "hardware.device=cpu"]
    assert rehearsal(experiment, *settings).step(4).kept == pytest.approx(total, rel=0.03)


def test_the_parts_add_up_to_the_peak(lora):
    memory = lora.step(8)
    assert sum(memory.at_peak.values()) == memory.peak
    trained = 2 * sum(memory.weights.values())
    assert 0 < memory.moments < trained
    assert memory.kept > memory.logits > 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_recomputing_keeps_less(experiment, device):
    settings = ["method=lora", f"hardware.device={device}"]
    plain, again = (rehearsal(experiment, *settings, *more).step(8) for more in ([], [RECOMPUTE]))
    assert again.kept < plain.kept / 2
    assert plain.at_peak["workspaces"] == (2**26 if device == "cuda" else 0)
    assert sum(plain.at_peak.values()) == plain.peak
    assert again.peak < plain.peak
    assert again.weights == plain.weights


def test_weights_of_four_bits_take_half_a_byte(experiment):
    own = rehearsal(experiment, "method=lora", *FOUR_BIT)
    linears = 4 * (4 * 32 * 32 + 2 * 32 * 64)  # layers x (attention, feed-forward)
    assert own.step(2).weights["nf4"] == linears // 2 + linears // 64


def test_a_pass_that_adds_to_gradients_holds_them_from_the_start(experiment):
    own = rehearsal(experiment, "method=full")
    alone, later = own.step(1), own.step(1, accumulates=True)
    assert alone.peak < later.peak <= alone.peak + alone.gradients


def test_dropout_keeps_one_byte_an_element_on_a_gpu(experiment):
    on_cpu = rehearsal(experiment, "method=full", "hardware.device=cpu").step(8)
    on_gpu = rehearsal(experiment, "method=full", "hardware.device=cuda").step(8)
    assert on_gpu.kept < on_cpu.kept


@pytest.mark.parametrize("model", ["tiny_deberta", "tiny_gpt2"])
def test_models_that_look_at_labels_and_masks_are_planned(experiment, model):
    assert Rehearsal(experiment(f"model={model}", "method=lora"), LABELS).step(4).kept > 0


def reads_content(*_):
    return float(torch.ones(3).sum())


def has_no_such_thing(*_):
    return {}["key"]


@pytest.mark.parametrize("fails", [reads_content, has_no_such_thing])
def test_what_cannot_be_planned_is_one_line(experiment, monkeypatch, fails):
    own = rehearsal(experiment, "method=head")
    monkeypatch.setattr(own, "_update", fails)
    with pytest.raises(MethodError, match="memory must be planned of a model and a method that do without the content"):
        own.step(2)


def test_shards_are_refused(experiment):
    with pytest.raises(ConfigError, match="shard must be false"):
        rehearsal(experiment, "hardware=fsdp")


def test_the_largest_part_of_the_effective_batch_that_fits_is_found(experiment):
    settings = ["method=lora", "train.batch_size=12", "train.gradient_accumulation_steps=2"]
    own = rehearsal(experiment, *settings)
    needed = own.step(8, accumulates=True).peak
    exactly, less = (next(iter(fits(own, LABELS, limit))) for limit in (needed, needed - 1))
    assert (exactly.batch_size, exactly.gradient_accumulation_steps, exactly.peak) == (8, 3, needed)
    assert (less.batch_size, less.gradient_accumulation_steps) == (6, 4)
    assert less.peak < needed


@pytest.mark.parametrize(
    ("size", "accumulation", "processes", "share"),
    [
        (16, 1, 1, (16, False)),
        (16, 1, 4, (4, False)),
        (16, 4, 4, (16, False)),
        (16, 2, 4, (4, True)),
        (1, 1, 2, (1, False)),
    ],
)
def test_a_process_is_planned_with_its_own_rows(experiment, size, accumulation, processes, share):
    settings = [f"train.batch_size={size}", f"train.gradient_accumulation_steps={accumulation}", "hardware.device=cpu"]
    own = rehearsal(experiment, "method=lora", *settings, f"hardware.processes={processes}")
    rows, accumulates = share
    assert own.own_step() == own.step(rows, accumulates=accumulates)


def test_what_fits_into_one_process_of_several_is_found(experiment):
    settings = ["method=lora", "train.batch_size=8", "train.gradient_accumulation_steps=2", "hardware.device=cpu"]
    own = rehearsal(experiment, *settings, "hardware.processes=4")
    two, four = own.step(2, accumulates=True).peak, own.step(4).peak  # 8 in halves of 2, 4 whole in one process
    assert two < four
    assert next(iter(fits(own, LABELS, four))).batch_size == 16
    assert next(iter(fits(own, LABELS, four - 1))).batch_size == 8
    assert next(iter(fits(own, LABELS, two - 1))).batch_size in (1, 2, None)


def test_processes_hold_a_copy_of_the_gradients_while_they_add_them_up(experiment):
    settings = ["method=full", "train.batch_size=2", "train.max_length=8", "hardware.device=cpu"]
    one, two = (rehearsal(experiment, *settings, f"hardware.processes={count}").step(1) for count in (1, 2))
    assert two.peak > one.peak


def test_processes_of_a_cpu_share_its_memory():
    one, four = (available_memory(Hardware(device=Device.cpu, processes=count)) for count in (1, 4))
    assert four == pytest.approx(one / 4, rel=0.01)


def test_what_does_not_fit_says_what_a_row_needs(lora):
    found = next(iter(fits(lora, LABELS, 1000)))
    assert (found.batch_size, found.peak) == (None, lora.step(1, accumulates=True).peak)


def test_with_and_without_recomputing_and_four_bits_is_said(experiment, lora):
    found = [fit.settings for fit in fits(lora, LABELS, 10**9)]
    assert found == [[], [RECOMPUTE], [*FOUR_BIT], [*FOUR_BIT, RECOMPUTE]]
    whole = rehearsal(experiment, "method=full")
    assert [fit.settings for fit in fits(whole, LABELS, 10**9)] == [[], [RECOMPUTE]]


def test_plan_tells_memory(capsys):
    assert main(["plan", "model=tiny_bert", "method=lora", "--fit", "1GB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["memory"]["peak"] == sum(found["memory"]["at_peak"].values())
    assert found["fit"][0]["batch_size"] == found["memory"]["rows"] == 16
    assert main(["plan", "model=tiny_bert", "method=lora", "--memory"]) == 0
    shown = capsys.readouterr().out
    assert "memory of a step of 16 x 128 tokens" in shown
    assert "weights (fp32 + int64)" in shown
    assert "fits into" not in shown
    assert "generating" not in shown
    assert "processes" not in shown
    shared = ["hardware=ddp", "hardware.processes=4", "hardware.device=cpu"]
    assert main(["plan", "model=tiny_bert", "method=lora", "--memory", *shared]) == 0
    assert "memory of a step of 4 x 128 tokens in each of 4 processes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("hardware=fsdp", "hardware.shard must be false where memory is planned, got true; set hardware=ddp"),
        ("train.max_length=512", "train.max_length must fit tiny_bert, at most 256, got 512; set train.max_length=256"),
    ],
)
def test_what_has_no_plan_of_memory_is_one_line_and_no_half_an_answer(capfd, setting, line):
    assert main(["plan", "model=tiny_bert", "method=lora", "--memory", setting]) == 2
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", f"molex: {line}\n")


def test_what_was_tried_is_said(capsys):
    settings = ["model=tiny_bert", "method=lora", "train.batch_size=6", "train.gradient_accumulation_steps=2"]
    assert main(["plan", *settings, "--fit", "1GB"]) == 0
    assert "tried: every train.batch_size that divides the effective batch, 12" in capsys.readouterr().out


def test_what_generating_keeps_is_said_to_be_left_out(capsys, official_data):
    settings = ["model=tiny_llama", "method=lora", "task=instruct/rte", "task.answer_mode=generate"]
    assert main(["plan", *settings, f"data_dir={official_data}", "train.max_length=32", "--memory"]) == 0
    (line,) = (each for each in capsys.readouterr().out.splitlines() if each.startswith("not counted:"))
    assert line.endswith(", keys and values kept while generating")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), False),
        (OSError(errno.ENOENT, "No such file or directory"), False),
    ],
)
def test_errors_of_no_memory_are_known(experiment, monkeypatch, error, is_one):
    monkeypatch.setattr("molex_cli.training.memory.told._way_out", lambda *_: "set less")
    with pytest.raises(TrainingError if is_one else type(error)) as told, memory_errors_told(experiment(), LABELS):
        raise error
    assert (told.value is error) is not is_one


def test_a_strange_size_is_one_line(capsys):
    assert main(["plan", "model=tiny_bert", "--fit", "lots"]) == 2
    assert capsys.readouterr().err.startswith("molex: --fit must be a size above 0")


def test_a_run_that_is_out_of_memory_names_what_would_fit(capsys, monkeypatch, tmp_path):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB free.")

    monkeypatch.setattr("molex_cli.training.loop._backward", full)
    run = ["train", "experiment=smoke", "method=lora", "hardware.threads=1", "log.wandb=disabled"]
    assert main([*run, "train.batch_size=8", f"output_dir={tmp_path}"]) == 2
    (record,) = tmp_path.glob("*/record.json")
    message = json.loads(record.read_text())["error"]["message"]
    assert message.startswith("train.batch_size=8 must fit into memory, got: CUDA out of memory; a step needs")
    assert "train.batch_size=4 train.gradient_accumulation_steps=2 (" in message
    assert message.endswith("would fit")
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
