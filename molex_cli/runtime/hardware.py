"""Devices, precision, memory and the named random streams; the only file that knows CUDA."""

import contextlib
import ctypes
import gc
import hashlib
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator


class Device(Enum):
    """Where to compute; `auto` takes a GPU when there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """Number format of the forward pass; trainable parameters stay in float32."""

    fp32 = "fp32"
    bf16 = "bf16"


class Base(Enum):
    """Number format in which the weights that are not trained are kept."""

    fp32 = "fp32"
    bf16 = "bf16"
    nf4 = "nf4"


@dataclass(kw_only=True)
class Hardware:
    """What a run computes on."""

    name: str = "auto"
    """Name in records."""
    device: Device = Device.auto
    precision: Precision = Precision.fp32
    threads: int | None = None
    """CPU threads of one process; null leaves torch's choice."""
    base: Base = Base.fp32
    """Format of the weights that are not trained; below fp32 with precision=bf16 only. nf4 needs bitsandbytes."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, more time."""
    compile: bool = False
    """Compile the model with torch.compile."""
    processes: int | None = 1
    """Processes that share one run; null takes one for each GPU. torchrun's own number goes before it."""
    shard: bool = False
    """Divide the weights that are not trained among the processes (FSDP)."""
    devices: list[str] = field(default_factory=list)
    """GPUs that the jobs of a sweep lease, as CUDA_VISIBLE_DEVICES names them; none leases nothing."""
    jobs_per_device: int = 1
    """Jobs of a sweep that share one of `devices`."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if self.threads is not None and self.threads < 1:
            yield f".threads must be at least 1, got {self.threads}"
        if self.base is not Base.fp32 and self.precision is Precision.fp32:
            yield f".base must be fp32 with precision=fp32, got {self.base.name}; set hardware.precision=bf16"
        for name in ("processes", "jobs_per_device"):
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f".{name} must be at least 1, got {value}"
        if self.shard and self.base is Base.nf4:
            yield ".base must be fp32 or bf16 with shard=true, got nf4"
        doubled = [device for device in self.devices if self.devices.count(device) > 1]
        if doubled:
            yield f".devices must differ, got {doubled[0]} twice; set hardware.jobs_per_device"


def stream_seed(seed: int, stream: str) -> int:
    """Return the seed of a named random stream, so that one stream's use never moves another's."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def random_stream(seed: int, stream: str) -> Iterator[None]:
    """Let everything inside draw from the named stream; the outer state comes back afterwards."""
    import torch

    # Asking for the states of all GPUs would open each of them; one at most is this process's.
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        torch.manual_seed(stream_seed(seed, stream))
        yield


def shared_by_others() -> int:
    """Return how many processes torchrun has started for this run; 0 where it did not start this one."""
    told = [name for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") if name in os.environ]
    if len(told) in (1, 2):
        raise ConfigError(f"{told[0]} must come with WORLD_SIZE, RANK and LOCAL_RANK, as torchrun sets them; unset it")
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        if not os.environ.get(name, "0").isdecimal():
            raise ConfigError(f"{name} must be a number, as torchrun sets it, got {os.environ[name]!r}; unset it")
    return int(os.environ.get("WORLD_SIZE", 0))


def process_count(hardware: Hardware) -> int:
    """Return how many processes share a run."""
    if hardware.processes is not None:
        return hardware.processes
    import torch

    return max(1, torch.cuda.device_count())


def computes_on_gpu(hardware: Hardware) -> bool:
    """Return whether the settings mean a GPU on this machine, or ask for one."""
    if hardware.device is not Device.auto:
        return hardware.device is Device.cuda
    import torch

    return torch.cuda.is_available()


def require_device(hardware: Hardware) -> None:
    """Raise ConfigError if the settings ask for a device that this machine does not have."""
    import torch

    if hardware.device is Device.cuda and not torch.cuda.is_available():
        raise ConfigError("hardware.device must be a device of this machine, got cuda; set hardware.device=cpu")


def accelerator(hardware: Hardware) -> "Accelerator":
    """Return accelerate's handle on the device, with the settings' precision and threads."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    shared_by_others()
    if not torch.distributed.is_initialized():  # each run in a process chooses anew
        AcceleratorState._reset_state(reset_partial_state=True)
    require_device(hardware)
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    keep_freed_memory()
    reset_peak_memory()
    return Accelerator(
        cpu=hardware.device is Device.cpu,
        mixed_precision="no" if hardware.precision is Precision.fp32 else hardware.precision.value,
    )


def wait_for_gpu() -> None:
    """Wait until a GPU that this process uses has done all that it was given."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def give_back_memory() -> None:
    """Free what nothing refers to any more, on a GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: each step asks for the same ones, and fresh pages are slow."""
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold = -1, -3
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):  # another C library: only slower
        return


def reset_peak_memory() -> None:
    """Let the peaks begin now, so that one run does not report what another needed."""
    import torch

    # Not every Linux lets a process do this; its peak is then that of its whole life.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_bytes() -> dict[str, int]:
    """Return the peak resident memory since the run began and, with a GPU, the peak allocated memory."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak["cpu"] = int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["gpu"] = torch.cuda.max_memory_allocated()
    return peak


def description(hardware: Hardware) -> dict[str, str | int | None]:
    """Return what the machine is, for the record; of its GPU what the settings compute on."""
    import torch

    return {
        "platform": sys.platform,
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "gpu": "none" if (name := device_name(hardware)) == "cpu" else name,
    }


def device_name(hardware: Hardware) -> str:
    """Return what the settings compute on: the name of this machine's GPU, or cpu."""
    import torch

    return torch.cuda.get_device_name() if computes_on_gpu(hardware) and torch.cuda.is_available() else "cpu"


def machine_memory() -> int:
    """Return the bytes of this machine's memory, or what a container has of it."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # there is no container, or it says max
        return whole


def available_memory(hardware: Hardware) -> int:
    """Return the bytes that a process of a run may have.

    Of a GPU what is free and what this process has; of a machine an equal part of all.
    """
    import torch

    if computes_on_gpu(hardware) and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0]) + torch.cuda.memory_reserved()
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    share = machine_memory() // (int(os.environ.get("LOCAL_WORLD_SIZE", 0)) or process_count(hardware))
    return share if soft == resource.RLIM_INFINITY else min(share, soft)
