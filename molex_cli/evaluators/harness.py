"""Scores of a decoder on tasks of lm-evaluation-harness (Gao et al. 2024, doi 10.5281/zenodo.12608602).

The harness builds the prompts, reads the answers and computes the scores; the model is ours, as `harness_model` has it.
"""

import contextlib
import io
import logging
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from molex_cli.errors import ConfigError, DataError, MolexError, nearest, reason_of, shortened
from molex_cli.evaluators.harness_results import described, rows_of
from molex_cli.models.hub import repositories

LOCAL = ("json", "csv", "parquet", "arrow", "text")  # `dataset_path` of rows in files
RESAMPLES = 1000  # for the standard error of what is no mean
ANSWER_TOKENS = 256  # that the harness leaves room for where a task does not say


@dataclass(frozen=True, kw_only=True)
class HarnessRequest:
    """What a run is scored on."""

    tasks: tuple[str, ...]
    folder: Path | None = None
    """Of YAML files beside the harness's own."""
    num_fewshot: int | None = None
    """Examples before each question; None takes what the task says, else 0."""
    limit: float | None = None
    """First rows of each task, or below 1 their share."""
    seed: int = 1234
    """Of all that the harness draws."""
    batch_size: int = 8
    max_length: int | None = None
    """Tokens that the model is given at most; None takes what it has positions for."""


def require_known(request: HarnessRequest) -> None:
    """Raise ConfigError for a task that the harness does not have."""
    known = _manager(request.folder, request.tasks).all_tasks
    for name in request.tasks:
        if name not in known:
            raise ConfigError(f"lm_eval must be tasks of lm-evaluation-harness, got {name}; {nearest(name, known)}")


def prepare(request: HarnessRequest) -> None:
    """Read the tasks with their rows; raise ConfigError or DataError where they cannot be had."""
    require_known(request)
    _loaded(request)


def scores(adapted: Any, request: HarnessRequest) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield what is known of each task and group of tasks, and a line for each of its examples."""
    from lm_eval import evaluator

    from molex_cli.evaluators.harness_model import HarnessModel

    loaded = _loaded(request)
    with _silent():
        model = HarnessModel(adapted, request.batch_size, request.max_length)
        _require_room(loaded["tasks"], model.max_length)
        _seed(request.seed)
        with _no_processes():
            found = evaluator.evaluate(model, loaded, limit=request.limit, bootstrap_iters=RESAMPLES)
    drawn = request.limit, request.seed
    for name, task in loaded["tasks"].items():
        rows = rows_of(name, found, named=False)
        yield {**described(name, found, rows, *drawn), "max_length": model.max_length, "source": _source(task)}, rows
    for name, group in loaded["groups"].items():
        if group.has_aggregation:
            rows = [row for task in group.get_all_tasks() for row in rows_of(task.task_name, found, named=True)]
            yield {**described(name, found, rows, *drawn), "max_length": model.max_length, "source": name}, rows


@cache
def _manager(folder: Path | None, tasks: tuple[str, ...]) -> Any:
    """Return the harness's list of tasks; of the folder's alone where that has all, for reading all takes long."""
    with _silent():
        from lm_eval.tasks import TaskManager

        if folder is not None:
            own = TaskManager(include_path=str(folder), include_defaults=False)
            if set(tasks) <= set(own.all_subtasks):
                return own
        return TaskManager(include_path=None if folder is None else str(folder))


@cache
def _loaded(request: HarnessRequest) -> Any:
    """Return the tasks with their rows and prompts; raise DataError where they cannot be had."""
    manager = _manager(request.folder, request.tasks)
    online = (
        all(map(_is_local, (manager.task_index[name] for name in request.tasks)))
        or repositories.go_offline_if_unreachable()
    )
    try:
        with _silent():
            loaded = manager.load(list(request.tasks))
            for task in loaded["tasks"].values():
                _prepare(task, request)
    except MolexError:
        raise
    except Exception as error:  # a task's file may hold anything, and its rows come from libraries
        named = ",".join(request.tasks)
        if not online:
            raise DataError(
                f"lm_eval={named} must get its rows from the hub, got no connection and no cached copy; "
                "set lm_eval_path=DIR to a folder of task files over local rows"
            ) from error
        reason = shortened(reason_of(error), 300)
        raise DataError(f"lm_eval={named} must be a task that the harness can read, got: {reason}") from error
    return loaded


def _is_local(entry: Any) -> bool:
    """Return whether a task's rows are in files of this machine."""
    about = entry.cfg or {}
    path = str(about.get("dataset_path", ""))
    files = str((about.get("dataset_kwargs") or {}).get("data_files", ""))
    return "task" in about and ((path in LOCAL and "://" not in files) or Path(path).is_dir())


def _prepare(task: Any, request: HarnessRequest) -> None:
    """Set a task's examples as the harness's own command does, and build a first prompt, which finds what is wrong."""
    if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
        what = "runs code that models write" if getattr(task, "UNSAFE_CODE", False) else "needs pictures or sound"
        raise ConfigError(f"lm_eval must be tasks of text alone, got {task.task_name}, which {what}")
    own = task.get_config("num_fewshot")
    if own is None or (request.num_fewshot is not None and own != 0):  # a task may rule them out with 0
        task.set_config(key="num_fewshot", value=request.num_fewshot or 0)
    task.set_fewshot_seed(seed=request.seed)
    task.build_all_requests(limit=1, rank=0, world_size=1)
    task.set_fewshot_seed(seed=request.seed)


def _require_room(tasks: Mapping[str, Any], max_length: int) -> None:
    """Raise ConfigError where what is to be written leaves no room for a prompt."""
    for name, task in tasks.items():
        written = (task.get_config("generation_kwargs") or {}).get("max_gen_toks", ANSWER_TOKENS)
        if task.get_config("output_type") == "generate_until" and written >= max_length:
            raise ConfigError(
                f"lm_eval={name} must leave room for a prompt, got answers of up to {written} tokens and a model of "
                f"{max_length}; set max_gen_toks in the task's generation_kwargs"
            )


def _seed(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _source(task: Any) -> str:
    parts = (task.get_config("dataset_path"), task.get_config("dataset_name"))
    return "/".join(str(each) for each in parts if each)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what the harness and its libraries print, log, warn of and draw to themselves."""
    import datasets

    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _no_processes() -> Iterator[None]:
    """Let the harness resample in this process: torch's does not fork well."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        os.environ.pop("DISABLE_MULTIPROC")
        os.environ.update({} if before is None else {"DISABLE_MULTIPROC": before})
