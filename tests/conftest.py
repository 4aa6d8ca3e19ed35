"""What all tests share: no network, no cache of yours, one thread so that tests do not wait for each other."""

import os

import molex_cli  # noqa: F401  # before torch: it bounds how long OpenMP's threads spin

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("FORCE_COLOR", None)  # what the shell of a tester may have set
os.environ.pop("COLUMNS", None)
os.environ.pop("WANDB_DISABLED", None)
os.environ.setdefault("WANDB_MODE", "offline")

import copy
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from molex_cli.checkpoints import adapter
from molex_cli.config import command_line, overrides, schema
from molex_cli.methods.base import Adapted

settings.register_profile("busy machine", deadline=None)  # how long an example takes says nothing of the code
settings.load_profile("busy machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as where a script starts the tests in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

OFFICIAL_DATA = os.environ.get("MOLEX_DATA")
TINY_MODELS = [name for name in command_line.options("model") if name.startswith("tiny_")]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return two workers more than there are cores: many tests wait for processes or servers that they start."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder and with a cache of its own."""
    monkeypatch.setenv("MOLEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MOLEX_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def official_data() -> str:
    """Return the folder of the official files, or skip."""
    if not OFFICIAL_DATA:
        pytest.skip("MOLEX_DATA names no folder with the official files")
    return str(Path(OFFICIAL_DATA).resolve())


@pytest.fixture
def experiment() -> Callable[..., schema.Experiment]:
    """Return a function from overrides to the experiment they describe, with the smoke preset."""

    def make(*settings: str) -> schema.Experiment:
        return copy.deepcopy(composed(settings))

    return make


@cache
def composed(settings: tuple[str, ...]) -> schema.Experiment:
    """Compose settings once for all tests that ask for the same: that takes longer than many a test."""
    return overrides.checked(command_line.CommandLine(overrides=["experiment=smoke", *settings]))


@pytest.fixture
def adapted(experiment: Callable[..., schema.Experiment]) -> Callable[..., Adapted]:
    """Return a function from overrides to the adapted model."""

    def make(*settings: str) -> Adapted:
        return adapter.adapt(experiment(*settings), ["no", "yes"])

    return make


def batch(num_rows: int = 3, length: int = 12, vocabulary: int = 260, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a padded batch of random tokens: rows of falling length, the last of half the length."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, vocabulary, (num_rows, length), generator=generator)
    lengths = torch.linspace(length, length // 2, num_rows).long()
    mask = (torch.arange(length) < lengths[:, None]).long()
    labels = torch.arange(num_rows) % 2
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}
