"""Which commands there are, read from the files of this package without importing them."""

import ast
from pathlib import Path

from molex_cli import cli

ORDER = (
    "train", "plan", "allocate", "compare", "study", "diff", "eval", "predict", "export", "import", "merge", "push",
    "probe", "list", "experts", "sync", "wandb-view", "bench", "cache", "doctor",
)  # fmt: skip
"""The order of `molex --help`; a command that is not named here follows by its name."""


def commands() -> dict[str, str]:
    """Return every command with its summary, in the order of `molex --help`."""
    found = {name: text for name, path in _files().items() if (text := _summary(path)) is not None}
    return dict(sorted(found.items(), key=lambda item: (_position(item[0]), item[0])))


def module_of(command: str) -> str | None:
    """Return the full name of a command's module; None where there is no such command."""
    path = _files().get(command)
    return f"{cli.__name__}.{path.stem}" if path is not None and _summary(path) is not None else None


def _files() -> dict[str, Path]:
    """Return the modules of this package by the name of a command: wandb_view is wandb-view, list_ is list."""
    paths = [path for folder in cli.__path__ for path in Path(folder).glob("*.py")]
    return {path.stem.rstrip("_").replace("_", "-"): path for path in paths}


def _summary(path: Path) -> str | None:
    """Return the SUMMARY of a module from its source, as importing a module may take seconds."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SUMMARY":
            return str(ast.literal_eval(node.value))
    return None


def _position(command: str) -> int:
    return ORDER.index(command) if command in ORDER else len(ORDER)
