"""`molex cache`: what the cache folder keeps of frozen layers; --clear removes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.cli.parser import Parser
from molex_cli.errors import ConfigError, DiskError, nearest
from molex_cli.runtime.paths import default_cache_dir, expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.records.cached_prefixes import Entry

OTHERS = {"tokens": "tokens", "models": "converted models"}
SUMMARY = "list the cached outputs of frozen layers; --clear removes them"


def main(argv: list[str]) -> int:
    """List the entries, or remove them; those in use stay."""
    parser = Parser("cache", __doc__, examples=("molex cache", "molex cache --clear"))
    parser.add_argument("keys", nargs="*", metavar="KEY", help="entries, by how their keys begin (default: all)")
    parser.add_argument("--clear", action="store_true", help="remove the entries that no process uses")
    parser.add_argument("--dir", type=expanded, help="the cache folder (default: MOLEX_CACHE or ~/.cache/molex)")
    options = parser.parse(argv)
    from molex_cli.records.cached_prefixes import entries

    folder: Path = options.dir or default_cache_dir()
    chosen = _chosen(entries(folder), options.keys)
    if not chosen:
        say(f"{folder} keeps nothing of frozen layers")
    elif options.clear:
        _clear(chosen)
    else:
        _show(chosen)
    if not options.keys:
        _say_what_else(folder)
    return 0


def _chosen(found: "Sequence[Entry]", keys: Sequence[str]) -> "list[Entry]":
    for key in keys:
        if not any(entry.key.startswith(key) for entry in found):
            raise ConfigError(
                f"KEY must be one that molex cache lists, got {key}; {nearest(key, [e.key for e in found])}"
            )
    return [entry for entry in found if not keys or entry.key.startswith(tuple(keys))]


def _show(found: "Sequence[Entry]") -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import show

    table = Table("key", "model", "layers", "rows", "size", "last used", box=None, pad_edge=False)
    for entry in found:
        used = "now" if entry.in_use else f"{entry.last_used:%Y-%m-%d %H:%M} UTC"
        table.add_row(entry.key, entry.model, f"{entry.layers}", f"{entry.rows:,}", _size(entry.bytes), used)
    show(table)
    if len(found) > 1:
        say(f"{_size(sum(entry.bytes for entry in found))} in all")


def _clear(found: "Sequence[Entry]") -> None:
    from molex_cli.records.cached_prefixes import removed

    kept: list[str] = []
    for entry in found:
        what = f"{entry.key} ({entry.model}, {entry.layers} layers, {entry.rows:,} rows, {_size(entry.bytes)})"
        try:
            say(f"removed {what}" if removed(entry) else f"left {what}: a process uses it")
        except OSError as error:
            say(f"left {what}: {error.strerror}")
            kept.append(f"{entry.folder} ({error.strerror})")
    if kept:
        raise DiskError(f"{kept[0]} must be a folder that this user can lock and remove; let its owner remove it")


def _say_what_else(folder: Path) -> None:
    """Say what other parts of the cache hold, which nothing here removes."""
    from molex_cli.records.cached_prefixes import bytes_of

    sizes = {what: bytes_of(folder / name) for name, what in OTHERS.items()}
    if any(sizes.values()):
        say(f"beside it in {folder}: {', '.join(f'{what} {_size(size)}' for what, size in sizes.items() if size)}")


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
