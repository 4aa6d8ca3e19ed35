"""`molex bench` with the hardware settings of a run: formats, random weights, blocks of steps, launches."""

import json
import types
import weakref

import pytest
import torch
from torch.autograd import DeviceType

from molex_cli.cli import main
from molex_cli.cost import launches, measuring, operations, training_step
from molex_cli.cost.measuring import Bench
from molex_cli.models.loading import load, skeleton
from molex_cli.runtime import hardware

WORK = training_step.Load(rows=2, tokens=8, rounds=3)
FEW = ["--rows", "2", "--tokens", "8", "--rounds", "2"]
BF16 = ("hardware.device=cpu", "hardware.precision=bf16", "hardware.base=bf16")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="what is said of a machine without a GPU")


def formats(model):
    """Return the number formats of what is trained, of frozen matrices, and of frozen vectors."""
    found = [(p.requires_grad, p.ndim > 1, p.dtype) for p in model.parameters()]
    return (
        {dtype for trained, _, dtype in found if trained},
        {dtype for trained, matrix, dtype in found if not trained and matrix},
        {dtype for trained, matrix, dtype in found if not (trained or matrix)},
    )


@pytest.mark.parametrize("random_weights", [True, False])
@pytest.mark.parametrize("model", ["tiny_llama", "tiny_bert"])
def test_every_arm_has_the_base_in_one_format_and_trains_in_float32(experiment, monkeypatch, model, random_weights):
    settings = experiment(f"model={model}", "method=mola_inverted", *BF16)
    models = []
    kept = training_step.training_step
    monkeypatch.setattr(
        training_step, "training_step", lambda adapted, work: models.append(adapted.model) or kept(adapted, work)
    )
    bench = Bench([settings], WORK, loop=False, random_weights=random_weights)
    for name in bench.names:
        step = bench.stepper(name)
        trained, matrices, vectors = formats(models[-1])
        assert (trained, matrices) == ({torch.float32}, {torch.bfloat16})
        assert vectors <= {torch.float32}
        step()
        assert step.loss().isfinite()


def test_random_weights_are_small_and_buffers_are_those_of_the_model(experiment):
    model = experiment("model=tiny_llama").model
    made = skeleton(model, 2, "cpu", torch.bfloat16).model
    for name, parameter in made.named_parameters():
        if parameter.ndim > 1:
            assert 0.005 < parameter.float().std() < 0.1, name
    real = dict(load(model, 2, seed=0).model.named_buffers())
    assert any("inv_freq" in name for name in real)
    for name, buffer in made.named_buffers():
        assert torch.equal(buffer, real[name])


def test_in_blocks_one_arm_is_there_at_a_time_and_each_has_two_blocks(experiment, monkeypatch):
    bench = Bench([experiment("model=tiny_bert", "method=lora", "hardware=cpu")], WORK, random_weights=True)
    before, built = [], []
    kept = training_step.training_step

    def watched(adapted, work):
        assert all(model() is None for model in before)
        before.append(weakref.ref(adapted.model))
        return kept(adapted, work)

    stepper = Bench.stepper
    monkeypatch.setattr(training_step, "training_step", watched)
    monkeypatch.setattr(Bench, "stepper", lambda self, name: built.append(name) or stepper(self, name))
    seconds, _ = measuring.in_blocks(bench)
    assert built == [*bench.names, *reversed(bench.names)]
    assert {len(values) for values in seconds.values()} == {4}  # 3 rounds, as two blocks of 2


def test_the_conditions_are_in_the_title_and_in_the_json(capsys):
    command = ["bench", "model=tiny_llama", *BF16, "hardware.threads=1", *FEW, "--random-weights", "--no-memory"]
    assert main([*command, "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    about = table["conditions"]
    assert (about["device"], about["precision"], about["base"]) == ("cpu", "bf16", "bf16")
    assert about["random_weights"] is True
    assert "loop" in [arm["name"] for arm in table["arms"]]
    assert main(command) == 0
    title = capsys.readouterr().out.splitlines()[0]
    assert title.strip() == "tiny_llama, 2 x 8 tokens, cpu, bf16, base bf16, 1 thread, random weights"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("hardware.device=cuda", "must be a device of this machine, got cuda", marks=NO_GPU),
        pytest.param("--launches", "--launches must have a GPU to compute on, got cpu; --operations", marks=NO_GPU),
        ("--launches hardware=cpu", "--launches must have a GPU to compute on, got cpu; --operations"),
        ("--launches --inference", "--launches must be left out with --inference"),
        ("--launches --operations", "--operations must be left out with --launches"),
        ("--operations --random-weights", "--random-weights must be left out with --operations"),
        ("--inference --no-loop", "--no-loop must be left out with --inference"),
        ("--inference --random-weights", "--random-weights must be left out with --inference"),
        ("--inference hardware.precision=bf16", "hardware.precision must be fp32 with --inference, got bf16; answers"),
        ("hardware=ddp", "hardware.processes must be 1 with molex bench, got null"),
        ("hardware.shard=true", "hardware.shard must be false with molex bench, got true"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(capsys, arguments, words):
    assert main(["bench", "model=tiny_bert", *FEW, *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_without_the_loop_no_arm_is_held_against_it(capsys):
    assert main(["bench", "model=tiny_bert", *FEW, "hardware=cpu", "--no-memory", "--no-loop", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in table["arms"]][-1] == "mola_inverted"
    assert "loop" not in table["arms"][0]["time_ratio"]


def test_a_profile_is_tallied_by_launches_copies_and_what_ran():
    def event(name, device=DeviceType.CUDA, microseconds=0.0, annotation=False):
        span = types.SimpleNamespace(elapsed_us=lambda: microseconds)
        return types.SimpleNamespace(name=name, device_type=device, time_range=span, is_user_annotation=annotation)

    names = ["aten::mm", "cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx", "cudaMemcpyAsync"]
    ran = [event("gemm", microseconds=5), event("gemm", microseconds=6), event("sum", microseconds=1)]
    others = [event("Memcpy HtoD (Pinned -> Device)", microseconds=9), event("Optimizer.step", annotation=True)]
    work = launches.tally([*(event(name, DeviceType.CPU) for name in names), *ran, *others])
    assert (work.launches, work.copies, work.microseconds) == (3, 1, 12)
    assert work.kernels == {"gemm": 2, "sum": 1}


@NO_GPU
def test_a_step_on_a_cpu_launches_nothing(experiment):
    bench = Bench([experiment("model=tiny_bert", "method=lora", "hardware=cpu")], WORK)
    events = launches.profiled(bench.stepper("lora"))
    assert any(each.name == "aten::addmm" for each in events)
    assert launches.tally(events) == launches.Work()


def as_if_on_a_gpu(monkeypatch):
    """Let the CPU pass for a GPU as far as the bench asks."""
    monkeypatch.setattr(hardware, "computes_on_gpu", lambda settings: True)
    monkeypatch.setattr(hardware, "require_device", lambda settings: None)


@NO_GPU
def test_a_profiler_that_sees_no_launch_is_told_in_one_line(capsys, monkeypatch):
    as_if_on_a_gpu(monkeypatch)
    assert main(["bench", "--launches", "model=tiny_bert", "hardware=cpu", "method=lora", *FEW]) != 0
    assert "--launches must be seen by torch's profiler, got none of bitfit" in capsys.readouterr().err


def test_launches_are_a_table_with_ratios_to_peft_and_the_same_in_json(capsys, monkeypatch):
    pytest.importorskip("peft")
    as_if_on_a_gpu(monkeypatch)
    counts = iter(range(1, 100))
    tallied = lambda events: launches.Work(launches=next(counts), microseconds=1500.0)  # noqa: E731
    monkeypatch.setattr(launches, "profiled", lambda work: work())
    monkeypatch.setattr(launches, "tally", tallied)
    command = ["bench", "--launches", "model=tiny_bert", "hardware=cpu", "method=lora", *FEW]
    assert main([*command, "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    lora = table["arms"][-1]
    assert (lora["name"], lora["launches"], lora["optimizer_launches"], lora["gpu_milliseconds"]) == ("lora", 5, 6, 1.5)
    assert lora["ratio"] == {training_step.FLOOR: 5 / 1, training_step.PEFT: 5 / 3}
    assert main(command) == 0
    assert "launches a step" in capsys.readouterr().out


def test_memory_on_a_gpu_is_what_it_says_of_each_arm_alone(capsys, monkeypatch):
    as_if_on_a_gpu(monkeypatch)
    peaks = iter([4, 6, 8, 8, 6, 5])
    monkeypatch.setattr(hardware, "peak_memory_bytes", lambda: {"gpu": next(peaks) * 10**6})
    assert main(["bench", "model=tiny_bert", "hardware=cpu", "method=lora", *FEW, "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert [arm["memory_bytes"] for arm in table["arms"]] == [5_000_000, 6_000_000, 8_000_000]
    assert table["arms"][-1]["memory_ratio"][training_step.FLOOR] == 8 / 5


def test_on_a_gpu_dropout_is_one_operation_for_peft_too(experiment):
    pytest.importorskip("peft")
    on_cpu, on_gpu = (
        {
            arm.name: arm.by_name
            for arm in operations.counted(
                [experiment("model=tiny_bert", "method=lora", f"hardware.device={device}")], WORK
            )
        }
        for device in ("cpu", "cuda")
    )
    for arm in (training_step.PEFT, training_step.FLOOR):
        assert "native_dropout.default" not in on_cpu[arm]
        assert on_gpu[arm]["native_dropout.default"] >= on_gpu[arm]["native_dropout_backward.default"] > 0
        assert sum(on_gpu[arm].values()) < sum(on_cpu[arm].values())


def test_precision_is_counted_as_casts(experiment):
    plain, cast = (
        operations.operations(settings.method.inject, settings.model, WORK, settings.hardware)
        for settings in (
            experiment("model=tiny_llama", "method=lora", *extra) for extra in (("hardware.device=cpu",), BF16)
        )
    )
    assert cast["_to_copy.default"] > plain["_to_copy.default"]
