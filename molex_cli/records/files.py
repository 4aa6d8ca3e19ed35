"""Files of JSON and JSON lines; no torch."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from molex_cli.records.partial import renamed_when_whole
from molex_cli.records.secrets import hidden, secrets

SETTINGS = "settings"  # what somebody typed, and what a run is known by and does: a change would make another run


def write_text(path: Path, text: str) -> None:
    """Write a temporary file and rename it, so that no reader sees half of it."""
    with renamed_when_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_json(content: Any, indent: int | None = None) -> str:
    """Return content as JSON that every reader takes and that has no secrets; numbers that are not finite are null."""
    return json.dumps(_plain(content, secrets()), indent=indent, ensure_ascii=False, allow_nan=False)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, at once."""
    write_text(path, "".join(as_json(dict(row)) + "\n" for row in rows))


def _plain(value: Any, without: Sequence[str]) -> Any:
    """Return data that JSON can hold: NaN and infinities are null; and `without` these texts, but for settings."""
    if isinstance(value, str):
        return hidden(value, without)
    if isinstance(value, float) and (not math.isfinite(value)):
        return None
    if isinstance(value, dict):
        return {
            hidden(str(key), without): _plain(item, () if key == SETTINGS else without) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, without) for item in value]
    return value
