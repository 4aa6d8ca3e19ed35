"""Tab completion: what fits the word that is being typed, one a line, from a catalogue that is kept in the cache.

It runs at every press of a key, so only the standard library is imported here: the rest, to gather the catalogue where
a file of the package or of the user's YAML folders has changed. Nothing else is ever printed, whatever goes wrong.
"""

import contextlib
import io
import json
import os
import shlex
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from molex_cli import cli

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHELLS = ("bash", "fish", "zsh")
FOLDER_FLAGS = ("-cd", "--config-dir", "-cp", "--config-path")
GENERAL = ("--help", "--version")
MOST_FOLDERS = 2_000


def main(argv: Sequence[str]) -> int:
    """Answer `molex -sc install=bash`, which prints a script, and the queries of what that installs."""
    asked, _, shell = "".join(argv[1:2]).partition("=")
    if asked in ("install", "uninstall") and shell in SHELLS:
        name = f"molex.{shell}" if asked == "install" else f"uninstall.{shell}"
        with open(os.path.join(os.path.dirname(__file__), "shells", name), encoding="utf-8") as file:
            sys.stdout.write(file.read())
        return 0
    if asked == "query":
        found: list[str] = []
        with _silence(), contextlib.suppress(Exception, SystemExit):
            found = completed(*_typed())
        with contextlib.suppress(OSError):
            sys.stdout.write("".join(f"{each}\n" for each in found if each.isprintable()))
            sys.stdout.flush()
        return 0
    sys.stderr.write(f"molex: -sc must be install=SHELL or uninstall=SHELL, one of {', '.join(SHELLS)}\n")
    return 2


def completed(words: Sequence[str], word: str) -> list[str]:
    """Return all that fits the beginning of a word behind these, `molex` not among them."""
    catalogue = _catalogue(words)
    if not words:
        return _fitting([*catalogue["commands"], *(GENERAL if word else ())], word)
    if (about := catalogue["commands"].get(words[0])) is None:
        return []
    before = words[-1]
    flags: Mapping[str, list[str]] = about["flags"]
    if word.startswith("-"):
        flag, equals, value = word.partition("=")
        if equals:
            return [f"{flag}={each}" for each in _fitting(flags.get(flag, []), value)]
        return _fitting([*flags, "--help"], word)
    if before in ("--help", "-h"):
        return _fitting(_parts(_settings(catalogue, about, words)), word)
    if before in flags and before not in about["bare"]:
        return _fitting(flags[before], word)
    return _words(catalogue, about, words, word)


def _words(catalogue: Mapping[str, Any], about: Mapping[str, Any], words: Sequence[str], word: str) -> list[str]:
    """Return settings, or what stands behind one's equals sign, and what else is no flag."""
    key, equals, value = word.partition("=")
    if equals:
        if key == "run":
            return [f"run={each}" for each in _runs(value)] if key in about["own"] else []
        return [f"{key}={each}" for each in _values(catalogue, about, words, key.lstrip("+~"), value)]
    plus = word[: len(word) - len(word.lstrip("+"))]
    keys = (_as_far_as_next(f"{plus}{each}", word) for each in _keys(catalogue, about, words))
    runs = _runs(word) if about["takes_runs"] else []
    return [*_fitting([*about["words"], *keys], word), *runs]


def _keys(catalogue: Mapping[str, Any], about: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    groups = [each for each in catalogue["groups"] if _is_read(each, about["reads"])]
    return [*about["own"], *groups, *_settings(catalogue, about, words)]


def _as_far_as_next(key: str, word: str) -> str:
    """Return a key with its equals sign, or the section that comes next behind what was typed."""
    end = key.find(".", len(word))
    return f"{key}=" if end < 0 else key[: end + 1]


def _values(
    catalogue: Mapping[str, Any], about: Mapping[str, Any], words: Sequence[str], key: str, value: str
) -> list[str]:
    """Return the values of a setting that begin so; behind a comma those that are not among the ones before it."""
    given, comma, last = value.rpartition(",")
    known = {**_settings(catalogue, about, words), **about["own"]}
    known |= {group: each for group, each in catalogue["groups"].items() if _is_read(group, about["reads"])}
    left = [each for each in known.get(key, []) if each not in given.split(",")]
    return [f"{given}{comma}{each}" for each in _fitting(left, last)]


def _settings(catalogue: Mapping[str, Any], about: Mapping[str, Any], words: Sequence[str]) -> dict[str, list[str]]:
    """Return the settings that a command reads, those of the method that the other words choose among them."""
    chosen = next((each[7:] for each in reversed(words) if each.startswith("method=")), None)
    presets = any(each.startswith("experiment=") for each in words)
    kinds = [catalogue["kinds"].get(each) for each in (chosen or catalogue["default"]).split(",")]
    is_known = None not in kinds and not (presets and chosen is None)
    named = [catalogue["methods"][kind] for kind in kinds] if is_known else list(catalogue["methods"].values())
    found = dict(catalogue["settings"])
    for each in named:
        found |= each
    return {key: values for key, values in found.items() if _is_read(key, about["reads"])}


def _is_read(key: str, reads: Sequence[str] | None) -> bool:
    return reads is None or any(key == each or key.startswith(f"{each}.") for each in reads)


def _parts(settings: Mapping[str, Any]) -> list[str]:
    """Return the settings and their sections."""
    sections = {key.rpartition(".")[0] for key in settings if "." in key}
    return sorted({*sections, *(key.split(".")[0] for key in sections), *settings})


def _fitting(choices: Sequence[str], start: str) -> list[str]:
    return [each for each in dict.fromkeys(choices) if each.startswith(start)]


def _runs(start: str) -> list[str]:
    """Return the folders that go on from a path: runs, and folders on the way to them; at first those of outputs."""
    folder, _, name = start.rpartition("/")
    where = os.path.expanduser(folder or ("/" if start.startswith("/") else "."))
    found = sorted(each.name for each in os.scandir(where) if each.is_dir())[:MOST_FOLDERS]
    prefix = start[: len(start) - len(name)]
    fitting = [each for each in found if each.startswith(name) and (name or not each.startswith("."))]
    if not start and "outputs" in fitting:
        return _runs("outputs/") or ["outputs/"]
    is_run = {each: os.path.isfile(os.path.join(where, each, "record.json")) for each in fitting}
    return [f"{prefix}{each}{'' if is_run[each] else '/'}" for each in fitting]


def _typed() -> tuple[list[str], str]:
    """Return the words before the cursor, as a shell would pass them, and the beginning of the one at it."""
    line = os.environ.get("COMP_LINE", "")
    with contextlib.suppress(ValueError):
        line = line.encode()[: int(os.environ.get("COMP_POINT", "x"))].decode(errors="ignore")
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that is still open
        words = line.split()
    is_new = line[-1:].isspace() or len(words) < 2
    return (words[1:], "") if is_new else (words[1:-1], words[-1])


def _catalogue(words: Sequence[str]) -> dict[str, Any]:
    """Return the catalogue from the cache; gather and keep it where files have changed, or it cannot be read."""
    folders = _own_folders(words)
    sources = [PACKAGE, os.path.join(os.path.dirname(PACKAGE), "conf"), *cli.__path__[1:], *folders]
    name = zlib.crc32(os.pathsep.join(sources).encode(errors="surrogateescape"))
    path, now = os.path.join(_cache_dir(), "completion", f"{name:08x}.json"), _fingerprint(sources)
    with contextlib.suppress(Exception):
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        if kept["fingerprint"] == now and isinstance(kept["catalogue"]["commands"], dict):
            return dict(kept["catalogue"])
    from molex_cli.cli import catalogue

    found = catalogue.gathered([each for folder in folders[:1] for each in ("--config-dir", folder)])
    with contextlib.suppress(OSError):
        _keep(path, {"fingerprint": now, "catalogue": found})
    return found


def _keep(path: str, content: Any) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.{os.getpid()}"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(beside, path)


def _own_folders(words: Sequence[str]) -> list[str]:
    """Return the folders of YAML files that flags add."""
    found = [after for before, after in pairwise(words) if before in FOLDER_FLAGS]
    found += [each.partition("=")[2] for each in words if each.startswith(("--config-dir=", "--config-path="))]
    return [os.path.abspath(os.path.expanduser(each)) for each in found]


def _fingerprint(folders: Sequence[str]) -> int:
    """Return a number that changes with any file of the package or of the folders of YAML files."""
    found = 0
    for folder in folders:
        for line in _states(folder):
            found = zlib.crc32(line.encode(errors="surrogateescape"), found)
    return found


def _states(folder: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for each in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if each.is_dir() and each.name != "__pycache__" and not each.is_symlink():
                yield from _states(each.path)
            elif each.name.endswith((".py", ".yaml")):
                about = each.stat()
                yield f"{each.path} {about.st_mtime_ns} {about.st_size}"


def _cache_dir() -> str:
    """Return the folder of the cache, as `runtime.paths` has it, without a note where it cannot be written."""
    return os.path.expanduser(os.environ.get("MOLEX_CACHE") or "~/.cache/molex")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Let nothing that is imported or called print: neither Python, nor what it is written in."""
    saved = [(each, os.dup(each)) for each in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in saved:
            os.dup2(nowhere, number)
        dropped = io.StringIO()
        with contextlib.redirect_stdout(dropped), contextlib.redirect_stderr(dropped):
            yield
    finally:
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
