"""Devices, precision, memory and the named random streams; the only file that knows CUDA."""

import ctypes
import hashlib
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
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


@dataclass(kw_only=True)
class Hardware:
    """What a run computes on."""

    name: str = "auto"
    device: Device = Device.auto
    precision: Precision = Precision.fp32
    threads: int | None = None
    """CPU threads of one process; null leaves torch's choice."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if self.threads is not None and self.threads < 1:
            yield f".threads must be at least 1, got {self.threads}"


def stream_seed(seed: int, stream: str) -> int:
    """Return the seed of a named random stream, so that one stream's use never moves another's."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def random_stream(seed: int, stream: str) -> Iterator[None]:
    """Let everything inside draw from the named stream; the outer state comes back afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, stream))
        yield


def accelerator(hardware: Hardware) -> "Accelerator":
    """Return accelerate's handle on the device, with the settings' precision and threads."""
    import torch
    from accelerate import Accelerator

    if hardware.device is Device.cuda and not torch.cuda.is_available():
        raise ConfigError("hardware.device must be a device of this machine, got cuda; set hardware.device=cpu")
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    keep_freed_memory()
    return Accelerator(
        cpu=hardware.device is Device.cpu,
        mixed_precision="no" if hardware.precision is Precision.fp32 else hardware.precision.value,
    )


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


def peak_memory_bytes() -> dict[str, int]:
    """Return the process's peak resident memory and, with a GPU, its peak allocated memory."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peak["gpu"] = torch.cuda.max_memory_allocated()
    return peak


def description() -> dict[str, str | int]:
    """Return what the machine is, for the record."""
    import torch

    return {
        "platform": sys.platform,
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
