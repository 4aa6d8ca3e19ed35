"""What this machine has: packages, devices, threads, room on disks."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from molex_cli import __version__
from molex_cli.diagnosis.checking import Finding
from molex_cli.runtime import extras, sizes
from molex_cli.runtime import load as load_of_machine
from molex_cli.runtime.extras import is_installed
from molex_cli.runtime.hardware import machine_memory

NEEDED = ("torch", "transformers", "accelerate", "datasets")
LEAST_FREE = 2 * 10**9  # bytes that a first run with its caches may take
HARDWARE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # as /proc/cpuinfo of x86 and of ARM has it
# In a process of its own: a broken driver may end it, and torch takes seconds and memory.
ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({
    "gpus": [[each.name, each.total_memory] for each in devices],
    "bf16": bool(cuda and torch.cuda.is_bf16_supported()),
    "threads": torch.get_num_threads(),
    "build": torch.version.cuda or torch.version.hip or "",
}))
"""


def packages() -> Finding:
    """Return the versions of what every run needs."""
    missing = [name for name in NEEDED if not is_installed(name)]
    known = [f"{name} {importlib.metadata.version(name)}" for name in NEEDED if name not in missing]
    lacking = f"; no {', no '.join(missing)}: install molex again" if missing else ""
    return Finding(
        not missing,
        f"molex {__version__}, Python {platform.python_version()}, {', '.join(known) or 'no library'}{lacking}",
    )


def device() -> Finding:
    """Return the devices that torch can use, and their number formats."""
    if not is_installed("torch"):
        return Finding(False, "no torch: install molex again")
    done = subprocess.run([sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Finding(False, f"torch cannot be loaded: {said}")
    return _device(json.loads(lines[-1]))


def _device(told: dict) -> Finding:
    if told["gpus"]:
        each = ", ".join(f"{name} ({sizes.shown(memory)})" for name, memory in told["gpus"])
        formats = "fp32 and bf16" if told["bf16"] else "fp32; bf16 has no hardware here"
        return Finding(True, f"cuda: {each}; precision {formats} (hardware=gpu is bf16)")
    build = "" if told["build"] else ", torch is a CPU build"
    fast = "bf16 has hardware here" if _has_bf16() else "bf16 works but is slow: no hardware for it"
    return Finding(True, f"cpu (no GPU that torch sees{build}); precision fp32; {fast}")


def _has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return bool(set(HARDWARE_BF16) & set(flags))


def threads() -> Finding:
    """Return the cores of this process, what else uses them, and the memory."""
    cores, load = load_of_machine.cores(), load_of_machine.load_average() or 0.0
    given = os.environ.get("OMP_NUM_THREADS")
    limit = f", OMP_NUM_THREADS={given}" if given else ""
    busy = "; busy: others take the cores, timings will not repeat" if load > cores else ""
    memory = sizes.shown(machine_memory())
    return Finding(not busy, f"{cores} cores{limit}, load {load:.1f}, memory {memory}{busy}")


def optional() -> Finding:
    """Return which optional packages are missing, each with the command that adds it."""
    there = [name for name, modules in extras.EXTRAS.items() if all(map(is_installed, modules))]
    missing = [f"{name} ({extras.install(name)})" for name in extras.EXTRAS if name not in there]
    found = ", ".join(there) or "none"
    return Finding(not missing, f"{found}{'; missing: ' + ', '.join(missing) if missing else ''}")


def room(folder: Path, key: str) -> Finding:
    """Return the free space of a folder, or of where it will be made, and whether it can be written to."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(False, f"{folder} cannot be written to; set {key}=PATH")
    free = shutil.disk_usage(there).free
    made = "" if there == folder.absolute() else ", made by the first run"
    little = f"; a run may need {sizes.shown(LEAST_FREE)}: make room or set {key}=PATH" if free < LEAST_FREE else ""
    return Finding(not little, f"{folder}: {sizes.shown(free)} free{made}{little}")
