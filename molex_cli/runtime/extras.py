"""What molex can do without, and how this installation gets it."""

import importlib.metadata
import json
import shlex
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "molex-cli"  # PyPI's `molex` is a parser of molecules
SOURCE = Path(__file__).resolve().parents[2]


def install(extra: str) -> str:
    """Return the command that adds an extra to this installation, as it came: from a checkout or from an index."""
    if (SOURCE / "pyproject.toml").is_file():
        return f"pip install -e {_with_extra(SOURCE, extra)}"
    if folder := _installed_from():
        return f"pip install {_with_extra(folder, extra)}"
    return f"pip install '{DISTRIBUTION}[{extra}]'"


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
