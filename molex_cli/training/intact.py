"""Whether what a run resumes from is still what was written: a digest of its state, and the files that this relies on.

A state relies on the best adapter and its predictions, and at its last step on the last ones too. Before that step the
last ones are written again by the resumed run, and so is what is of a later step than the state: a run that was killed
between the two will come to that evaluation again.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from molex_cli.checkpoints import adapter
from molex_cli.errors import CheckpointError, RecordError
from molex_cli.records.reading import read_rows
from molex_cli.records.run_folder import adapter_name
from molex_cli.runtime.paths import require_file

WAY_OUT = "resume=never starts over beside it"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def digest(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of tensors, and a text beside them."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 over a file."""
    with require_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_plausible(tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any], total_steps: int) -> None:
    """Raise ValueError for a state that no run can be in; those of before have no digest that would say so."""
    step, lengths = about["step"], {len(about["history"][name]) for name in ("losses", "tokens", "seconds")}
    if type(step) is not int or not 0 <= step <= total_steps:
        raise ValueError(f"step must be from 0 to {total_steps}, got {step}")
    if lengths != {step}:
        raise ValueError(f"losses, tokens and seconds must be of {step} steps, got {sorted(lengths)}")
    if strange := {f"parameter/{name}" for name in about["flow"]["waiting"]} - tensors.keys():
        raise ValueError(f"no tensor {min(strange)}")
    for name, tensor in tensors.items():
        moment, _, parameter = name.partition("/")
        expected = [] if moment == "step" else list(tensors.get(f"parameter/{parameter}", tensor).shape)
        if moment in MOMENTS and list(tensor.shape) != expected:
            raise ValueError(f"{name} must be of shape {expected}, got {list(tensor.shape)}")


def predictions(folder: Path, about: Mapping[str, Any], total_steps: int) -> dict[str, list[dict[str, Any]]]:
    """Return the predictions that a state relies on; raise CheckpointError where they or their adapter are damaged."""
    scoring, step = about.get("scoring") or {}, about["step"]
    needed = ["best"] if "best" in scoring else []
    needed += ["last"] if "last" in scoring and step == total_steps else []
    rows = {}
    for which in needed:
        if _told(folder / adapter_name(which), adapter.intact).step <= step:
            path = folder / f"predictions-{which}.jsonl"
            expected = (about.get("files") or {}).get(path.name)
            rows[which] = _told(path, partial(_rows, expected=expected))
    return rows


def _told(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except (CheckpointError, RecordError, OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) or not path.exists() else error
        raise CheckpointError(f"{path} must be as its run left it, to resume from, got {reason}; {WAY_OUT}") from None


def _rows(path: Path, expected: str | None) -> list[dict[str, Any]]:
    """Return the predictions in a file; raise ValueError if it is not the one of this digest, or not one at all."""
    if expected is not None and file_digest(path) != expected:
        raise ValueError("other bytes")
    return read_rows(path)
