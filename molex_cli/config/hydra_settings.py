"""Which of Hydra's own settings do something in molex; all others are refused by name, wherever they are set."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from molex_cli.records import flat
from molex_cli.runtime.extras import install

HELP = ("hydra.help.header", "hydra.help.footer", "hydra.hydra_help")
WORK = ("hydra.launcher", "hydra.sweeper", "hydra.searchpath", *HELP)
"""Where a sweep's jobs run, what a sweep draws, where YAML files are looked for, and what --help adds."""
WAYS_OUT = {
    "hydra.mode": "-m sweeps",
    "hydra.run": "output_dir=DIR is the folder of the runs",
    "hydra.sweep": "output_dir=DIR is the folder of the runs, and of sweeps/",
    "hydra.output_subdir": "record.json in a run's folder has all its settings",
    "hydra.output": "record.json in a run's folder has all its settings",
    "hydra.callbacks": "events.jsonl in a run's folder has all that happens",
    "hydra.help": "hydra.help.header and hydra.help.footer are what --help begins and ends with",
    "hydra.job.chdir": "paths are those of the folder where the command starts; output_dir=DIR is that of the runs",
    "hydra.job.env_set": "set the variable before the command: NAME=value molex train ...",
    "hydra.job.env_copy": "a job has all variables of the command",
    "hydra.job.name": "hydra.launcher.name names a sweep's jobs on a cluster",
    "hydra.job": "a run is named by its settings",
    "hydra.verbose": "log.every and events.jsonl have what a run does",
    "hydra.job_logging": "log.every and events.jsonl have what a run does",
    "hydra.hydra_logging": "log.every and events.jsonl have what a run does",
    "hydra.sweeper.max_batch_size": "hardware=pool hardware.jobs_per_device=N runs N jobs at once",
    "hydra.sweeper.params": "-m KEY=VALUE,VALUE sweeps from the command line",
}
IN_FILES = ("hydra.sweeper.params", "hydra.help")
"""What only files may set: the sweep of an experiment, and a template of --help, as files of before have it."""
PLUGINS = {
    "joblib": "launchers",
    "submitit_local": "launchers",
    "submitit_slurm": "launchers",
    "optuna": "optuna",
    "ray": "ray",
    "ray_aws": "ray",
}
"""The extra that brings each launcher or sweeper."""
SHARED = ("launcher", "sweeper")
"""What all jobs of a sweep share, since one launcher runs them."""


def override_problems(override: Override) -> Iterator[str]:
    """Yield why an override of one of Hydra's settings would do nothing, or not what it says."""
    key, value = override.key_or_group, (override.input_line or "").partition("=")[2]
    if override.is_delete():
        yield f"{key} cannot be deleted; choose or set another"
    elif not works(key):
        yield _refusal(key.replace("/", "."), value, key)
    elif "/" in key and override.value() is None:
        yield f"{key} must be one of Hydra's files, got null; leave it out"
    elif override.is_sweep_override():
        yield f"{key} must be one value, got {value}; all jobs of a sweep share it"


def file_problems(files: Iterable[tuple[Path, str]], shipped: Path) -> Iterator[str]:
    """Yield which of Hydra's settings YAML files set to no effect.

    `files` are those that make the settings, each with the part of them that it makes; `shipped` is the folder of
    molex's own. What these say is known: a first file of one's own may have been copied from them.
    """
    known = list(_set_by(shipped / "config.yaml", ""))
    for path, package in files:
        for key, value in [] if path.is_relative_to(shipped) else _set_by(path, package):
            if not (works(key) or (key, value) in known or _is_below(key, IN_FILES)):
                yield f"{_refusal(key, str(value), key)} (in {path})"


def plugin_problems(own: Mapping[tuple[str, ...], DictConfig]) -> Iterator[str]:
    """Yield where the launcher or sweeper is none of Hydra's."""
    for name in SHARED:
        found = [part[name] for part in own.values() if not OmegaConf.is_missing(part, name)]
        targets = [each.get("_target_") if isinstance(each, DictConfig) else each for each in found]
        for target in sorted({str(target) for target in targets}):
            if not target.startswith(("hydra.", "hydra_plugins.")):
                yield f"hydra/{name} must be one of Hydra's plugins, got {target}; leave hydra.{name}._target_ out"


def not_installed(reason: str) -> str | None:
    """Return what is missing where Hydra finds no launcher or sweeper of a name that has a plugin; else None."""
    found = re.search(r"hydra/(launcher|sweeper)/(\w+)", reason)
    extra = PLUGINS.get(found[2]) if found else None
    if found is None or extra is None:
        return None
    return f"hydra/{found[1]}={found[2]} is a plugin of Hydra that is not installed; {install(extra)}"


def sharing_problems(own: Mapping[tuple[str, ...], DictConfig]) -> Iterator[str]:
    """Yield which of Hydra's settings differ between the groups' choices of one sweep."""
    for name in SHARED:
        found = [OmegaConf.to_container(each[name], resolve=False) for each in own.values()]
        different = next((n for n, each in enumerate(found) if each != found[0]), None)
        if different is not None:
            one, other = (" ".join(list(own)[n]) for n in (0, different))
            yield (
                f"hydra.{name} must be the same for all jobs of a sweep, got another one for {other} than for {one}; "
                "make two sweeps of it"
            )


def works(key: str) -> bool:
    """Return whether a setting of Hydra's does something."""
    dotted = key.replace("/", ".")
    return _is_below(dotted, WORK) and not _is_below(dotted, ("hydra.sweeper.max_batch_size", "hydra.sweeper.params"))


def own_search_path(path: Path) -> Any:
    """Return the search path that a file sets, interpolations as they are written; None where it sets none."""
    return flat(OmegaConf.to_container(OmegaConf.load(path), resolve=False)).get("hydra.searchpath")


def search_folders(own: DictConfig) -> list[Path]:
    """Return the folders of the search path, in its order, as composing found them."""
    found = []
    for source in own.runtime.config_sources:
        if source.schema == "file":
            found.append(Path(source.path))
        elif source.schema == "pkg" and source.provider != "hydra":
            package = resources.files(source.path)
            found += [package] if isinstance(package, Path) else []
    return found


def _refusal(dotted: str, value: str, key: str) -> str:
    way_out = next((hint for start, hint in WAYS_OUT.items() if _is_below(dotted, (start,))), "leave it out")
    return f"{key} must be left out, got {value}: molex does not read it; {way_out}"


def _is_below(key: str, starts: tuple[str, ...]) -> bool:
    return any(key == start or key.startswith(f"{start}.") for start in starts)


def _set_by(path: Path, package: str) -> Iterator[tuple[str, Any]]:
    """Yield each of Hydra's settings that a file makes, by full key, interpolations as they are written."""
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    if not isinstance(content, dict):
        return
    defaults = content.pop("defaults", None) or []
    for choice in (each for each in defaults if isinstance(each, dict)):
        for group, name in choice.items():
            if (key := str(group).split()[-1].lstrip("/")).startswith("hydra/"):
                yield key.replace("/", "."), name
    for key, value in flat(content, package).items():
        if _is_below(key, ("hydra",)):
            yield key, value
