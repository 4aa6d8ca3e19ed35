"""Where rows and models come from on this machine, and whether the hub, W&B and the launchers are there."""

import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from molex_cli.config import choices, command_line, schema
from molex_cli.config.task import Task
from molex_cli.diagnosis.checking import Finding
from molex_cli.errors import ModelError, reason_of
from molex_cli.models.hub import connection as hub
from molex_cli.models.settings import Model
from molex_cli.models.sources import package_folder
from molex_cli.runtime.addresses import address
from molex_cli.runtime.extras import LAUNCHERS, install, is_installed

ANSWER_SECONDS = 3.0  # that the hub or W&B's server may take
_composing = threading.Lock()  # Hydra shares what it composes with between threads


def tasks(data_dir: str | None) -> Finding:
    """Return which tasks have their rows here: built in, or as official files."""
    known = _experiments("task", data_dir)
    here = [name for name, experiment in known if _has_rows(experiment.task, data_dir)]
    others = [name for name, _ in known if name not in here]
    where = f" (files under {data_dir})" if data_dir else " (no folder: set MOLEX_DATA or data_dir)"
    rest = f"; from the hub: {', '.join(others)}" if others else ""
    if data_dir and not Path(data_dir).is_dir():
        return Finding(False, f"{', '.join(here)}; {data_dir} is no folder: set MOLEX_DATA or data_dir{rest}")
    return Finding(True, f"{', '.join(here)}{where}{rest}")


def _has_rows(task: Task, data_dir: str | None) -> bool:
    files = [name for name in (task.official.train, task.official.validation) if name]
    return bool(task.builtin) or bool(data_dir and files and all((Path(data_dir) / name).is_file() for name in files))


def models() -> Finding:
    """Return which models can be loaded without the hub, and how to get those of packages that are missing."""
    states = {name: _state(experiment.model) for name, experiment in _experiments("model", None)}
    here = [name for name, state in states.items() if state == "here"]
    missing = [f"{name} ({state})" for name, state in states.items() if state not in ("here", "hub")]
    remote = [name for name, state in states.items() if state == "hub"]
    parts = [", ".join(here) or "none", *([f"missing: {', '.join(missing)}"] if missing else [])]
    parts += [f"from the hub: {', '.join(remote)}"] if remote else []
    return Finding(any(not name.startswith("tiny_") for name in here), "; ".join(parts))


def _state(model: Model) -> str:
    """Return here, hub, or the way to get the package that has the model."""
    if model.random:
        return "here"
    if model.hub:
        return "here" if _is_cached(model.hub) else "hub"
    try:
        folder = package_folder(model)
    except ModelError as error:
        return str(error).rpartition("; ")[2]
    wanted = folder / (model.gguf or "config.json")
    if not wanted.exists():
        return f"its package has no {wanted.name}"
    return "here" if not model.gguf or is_installed("gguf") else install("gguf")


def _is_cached(name: str) -> bool:
    """Return whether the hub's cache has a model's config."""
    if hub.endpoint_problem():  # its client cannot be imported
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def reached_hub() -> Finding:
    """Return whether the Hugging Face hub, or what HF_ENDPOINT names, answers."""
    if hub.is_set_offline():
        return Finding(True, "not asked: HF_HUB_OFFLINE is set; models and rows come from caches, packages and files")
    if wrong := hub.endpoint_problem():
        return Finding(False, wrong)
    problem = _problem(hub.endpoint())
    if problem is None:
        return Finding(True, f"{address(hub.endpoint())} answers")
    way_out = "HF_ENDPOINT names another server; models of packages and files of one's own need none"
    return Finding(False, f"{address(hub.endpoint())} does not answer ({problem}); {way_out}")


def wandb() -> Finding:
    """Return whether W&B has a key and a server, and what log.wandb=auto therefore is; never the key."""
    from molex_cli.config.schema import Wandb
    from molex_cli.tracking import wandb as tracked

    mode, has_key = tracked.chosen_mode(Wandb.auto), tracked.has_key()
    key = "an API key is known" if has_key else "no API key (wandb login, or WANDB_API_KEY)"
    if mode != "online":
        return Finding(True, f"{key}; log.wandb=auto is {mode}")
    problem = _problem(tracked.server())
    server = f"{address(tracked.server())} {'answers' if problem is None else f'does not answer ({problem})'}"
    way_out = "" if problem is None else "; log.wandb=offline keeps runs here, molex sync sends them later"
    return Finding(problem is None, f"{key}; {server}; log.wandb=auto is {mode}{way_out}")


def launchers() -> Finding:
    """Return which of Hydra's launchers are installed, and whether there is a Slurm."""
    installed = [name for name, (module, _) in LAUNCHERS.items() if is_installed(module)]
    missing = [f"{name} ({install(LAUNCHERS[name][1])})" for name in LAUNCHERS if name not in installed]
    slurm = "sbatch is here" if shutil.which("sbatch") else "no sbatch here, which hardware=slurm needs"
    parts = [", ".join(installed) or "none", *([f"missing: {', '.join(missing)}"] if missing else []), slurm]
    return Finding(bool(installed), "; ".join(parts))


def _experiments(group: str, data_dir: str | None) -> list[tuple[str, schema.Experiment]]:
    """Return the choices of a group that can be composed as they are."""
    names = [name for name in command_line.options(group) if name not in ("files", "folder")]
    with _composing:
        schema.register()
        found: Iterator = choices.experiments(group, names, [f"data_dir={_quoted(data_dir)}"])
        return [(name, each) for name, each in found if isinstance(each, schema.Experiment)]


def _quoted(text: str | None) -> str:
    """Return a text as an override's value has it."""
    if text is None:
        return "null"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _problem(url: str) -> str | None:
    """Return why a server gives no answer; None where it gives one, whichever.

    It is asked without user and password: an error of what reads addresses quotes them.
    """
    try:
        urllib.request.urlopen(urllib.request.Request(address(url), method="HEAD"), timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return None
    except ValueError:
        return "it is no address"
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return reason_of(reason) if isinstance(reason, Exception) else str(reason)
    return None
