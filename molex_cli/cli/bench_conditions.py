"""What a figure of `molex bench` was measured on: the same words in the title of a table and in its JSON."""

from typing import TYPE_CHECKING, Any

from molex_cli.errors import ConfigError

if TYPE_CHECKING:
    from molex_cli.cost.measuring import Bench
    from molex_cli.runtime.hardware import Hardware


def check(hardware: "Hardware") -> None:
    """Raise ConfigError for settings of several processes: a step of one is measured."""
    if hardware.shard:
        raise ConfigError("hardware.shard must be false with molex bench, got true; set hardware=gpu or auto")
    if hardware.processes != 1:
        processes = "null" if hardware.processes is None else hardware.processes
        raise ConfigError(f"hardware.processes must be 1 with molex bench, got {processes}; set hardware=gpu or auto")


def check_inference(hardware: "Hardware") -> None:
    """Raise ConfigError for settings that an answer is not computed with."""
    from molex_cli.runtime.hardware import Base, Device, Precision

    others = {
        "device": (hardware.device.name, "cpu", hardware.device is Device.cuda),
        "precision": (hardware.precision.name, "fp32", hardware.precision is not Precision.fp32),
        "base": (hardware.base.name, "fp32", hardware.base is not Base.fp32),
        "activation_checkpointing": ("true", "false", hardware.activation_checkpointing),
        "compile": ("true", "false", hardware.compile),
    }
    for name, (value, only, differs) in others.items():
        if differs:
            raise ConfigError(
                f"hardware.{name} must be {only} with --inference, got {value}; answers are measured on the CPU in fp32"
            )


def of(bench: "Bench", *, counted: bool) -> dict[str, Any]:
    """Return model, load, device and number formats; where operations are `counted`, whose kernels they stand for."""
    from molex_cli.runtime.hardware import computes_on_gpu, device_name

    first = bench.experiments[0]
    settings = first.hardware
    return {
        "model": first.model.name,
        "rows": bench.work.rows,
        "tokens": bench.work.tokens,
        "device": ("GPU kernels" if computes_on_gpu(settings) else "CPU kernels") if counted else device_name(settings),
        "precision": settings.precision.name,
        "base": settings.base.name,
        "activation_checkpointing": settings.activation_checkpointing,
        "compile": settings.compile,
        "threads": settings.threads,
        "random_weights": bench.random_weights,
    }


def title(about: dict[str, Any], dropout: float | None) -> str:
    """Return the conditions in words, those that are not the usual ones only where they hold."""
    unusual = {
        f"base {about['base']}": about["base"] != "fp32",
        "recomputed activations": about["activation_checkpointing"],
        "compiled": about["compile"],
        f"{about['threads']} thread{'' if about['threads'] == 1 else 's'}": about["threads"] is not None,
        "random weights": about["random_weights"],
        f"adapter dropout {dropout or 0:g}": dropout is not None,
    }
    usual = [f"{about['model']}, {about['rows']} x {about['tokens']} tokens", about["device"], about["precision"]]
    return ", ".join([*usual, *(words for words, holds in unusual.items() if holds)])
