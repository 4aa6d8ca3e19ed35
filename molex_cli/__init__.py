"""Trustworthy comparisons of parameter-efficient fine-tuning methods.

What Python code may use is in `__all__` and stays; docs/python.md describes it. Each name is imported when it is first
asked for: `import molex_cli` costs nothing, torch is loaded by `load` and `train` alone. No name is that of a folder or
file of this package, which would take its place once something imported that: therefore `compare_runs` and
`read_records`, beside the folders `compare` and `records`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from molex_cli.runtime.openmp import bound_spinning

if TYPE_CHECKING:
    from molex_cli.api.comparing import ComparedRuns, compare_runs, read_records
    from molex_cli.api.loading import LoadedRun, load
    from molex_cli.api.planning import plan
    from molex_cli.api.training import train
    from molex_cli.errors import MolexError

__version__ = "0.1.0"
__all__ = ["ComparedRuns", "LoadedRun", "MolexError", "compare_runs", "load", "plan", "read_records", "train"]

_MODULES = {
    "ComparedRuns": "api.comparing",
    "LoadedRun": "api.loading",
    "MolexError": "errors",
    "compare_runs": "api.comparing",
    "load": "api.loading",
    "plan": "api.planning",
    "read_records": "api.comparing",
    "train": "api.training",
}

bound_spinning()  # before anything loads torch, in whatever process


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
