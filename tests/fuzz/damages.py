"""One damage to one file: to its bytes, to what stands at its path, or to a value in it."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz.texts import HOSTILE, RAW

TREES = (".json", ".jsonl", ".safetensors")
TABLES = (".yaml", ".csv", ".tsv", ".txt", ".log")
MARK, AGAIN = "@@here@@", "@@again@@"
FAMILIES = {"value": TREES, "key": TREES, "twice": TREES, "dropped": TREES, "token": TABLES, "line": TABLES}


def kinds(path: Path) -> list[str]:
    """Return the damages that a file can take."""
    inside = [kind for kind, endings in FAMILIES.items() if path.suffix in endings and path.stat().st_size]
    nodes = [kind for kind in NODES if kind != "no folder" or path.parent.name != "work"]
    return [*inside * 3, *BYTES, *nodes]  # half the tries go inside


def spelt(path: Path, value: str) -> str:
    """Return how a value, known by its name, is written in a file of this format."""
    return RAW.get(value, value) if path.suffix in TREES else HOSTILE.get(value, RAW.get(value, value))


def damage(path: Path, kind: str, at: int, value: str) -> None:
    """Do one damage; `at` is the seed of where in the file it is done, `value` what then stands there."""
    random = Random(at)
    if kind in NODES:
        NODES[kind](path)
    elif kind in BYTES:
        path.write_bytes(BYTES[kind](path.read_bytes(), random))
    elif path.suffix == ".safetensors":
        path.write_bytes(_safetensors(path.read_bytes(), kind, random, value))
    elif path.suffix == ".jsonl":
        lines = path.read_bytes().split(b"\n")
        i = random.randrange(max(1, len(lines) - 1))
        lines[i] = _json(lines[i], kind, random, value)
        path.write_bytes(b"\n".join(lines))
    elif path.suffix == ".json":
        path.write_bytes(_json(path.read_bytes(), kind, random, value))
    else:
        path.write_bytes(_text(path.read_bytes(), kind, random, value))


def _flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content or b"\0")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _zeros(content: bytes, random: Random) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + bytes(len(content[start : start + 64])) + content[start + 64 :]


def _with_noise(content: bytes, random: Random) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + random.randbytes(8) + content[start:]


BYTES: dict[str, Callable[[bytes, Random], bytes]] = {
    "flip": _flipped,
    "cut": lambda content, random: content[: random.randrange(len(content) + 1)],
    "empty": lambda content, random: b"",
    "zeros": _zeros,
    "noise": _with_noise,
    "doubled": lambda content, random: content * 2,
    "tail": lambda content, random: content + random.randbytes(16),
    "latin-1": lambda content, random: content.replace("é".encode(), b"\xe9") + b"\xff\xfe",
}


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


NODES: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "folder": _replaced(Path.mkdir),
    "pipe": _replaced(os.mkfifo),
    "dangling": _replaced(lambda path: path.symlink_to("nope")),
    "loop": _replaced(lambda path: path.symlink_to(path.name)),
    "device": _replaced(lambda path: path.symlink_to("/dev/full")),
    "no folder": lambda path: shutil.rmtree(path.parent),
}


def _json(content: bytes, kind: str, random: Random, value: str) -> bytes:
    """Return JSON with one value, key or entry changed; what cannot be read is returned as it is."""
    try:
        tree = json.loads(content)
    except ValueError:
        return content
    return _written(_changed(tree, kind, random), value).encode()


def _written(tree: Any, value: str) -> str:
    return json.dumps(tree).replace(json.dumps(MARK), value).replace(AGAIN, "")


def _changed(tree: Any, kind: str, random: Random) -> Any:
    """Return a tree with the mark in place of one of its values, or without it."""
    above: list[tuple[Any, Any]] = []  # each container on the way, and which of its entries was taken
    node = tree
    while isinstance(node, dict | list) and node and not (above and random.random() < 0.15):
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        above.append((node, key))
        node = node[key]
    if not above:
        return MARK
    parent, key = above[-1]
    if kind == "dropped":
        del parent[key]
    elif kind == "key" and isinstance(parent, dict):
        parent[random.choice(list(HOSTILE.values()))] = parent.pop(key)
    elif kind == "twice" and isinstance(parent, dict):
        parent[f"{key}{AGAIN}"] = MARK
    else:
        parent[key] = MARK
    return tree


def _safetensors(content: bytes, kind: str, random: Random, value: str) -> bytes:
    """Return the file with its header changed: mostly in the texts of JSON that its metadata holds."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    metadata = header.get("__metadata__", {})
    texts = [key for key, text in metadata.items() if text[:1] in ("{", "[")]
    if texts and random.random() < 0.75:
        key = random.choice(texts)
        metadata[key] = _written(_changed(json.loads(metadata[key]), kind, random), value)
        written = json.dumps(header)
    else:
        written = _written(_changed(header, kind, random), value)
    return len(written.encode()).to_bytes(8, "little") + written.encode() + data


def _text(content: bytes, kind: str, random: Random, value: str) -> bytes:
    """Return text with one token changed, or with one line more."""
    text = content.decode(errors="surrogateescape")
    if kind == "line":
        lines = text.splitlines(keepends=True)
        lines.insert(random.randrange(len(lines) + 1), value + "\n")
        return "".join(lines).encode(errors="surrogatepass")
    token = random.choice(list(re.finditer(r"[\w.]+|[^\w\s]|\s+", text)))
    return (text[: token.start()] + value + text[token.end() :]).encode(errors="surrogatepass")
