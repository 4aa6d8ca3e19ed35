"""YAML files of one's own, judged before Hydra reads them: what is wrong is one line, with the file and its line.

Hydra and OmegaConf end at many of these in a traceback, at some without a word, at aliases of aliases never.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from molex_cli.config.command_line import conf_dir
from molex_cli.config.hydra_internals import files_seen, header_problem, interpolation_problem, yaml_loader
from molex_cli.errors import ConfigError

MOST_BYTES = 2**17
MOST_VALUES = 4_000
"""Keys and values of one file with its aliases written out, which Hydra copies many times."""
DEEPEST = 32
SHOWN = 60
OURS = "tag:yaml.org,2002:"
TAGS = {OURS + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
NUMBERS = {OURS + name for name in ("int", "float")}


class _Fault(Exception):
    """What a file must be and is not, and the line of it, from 1."""

    def __init__(self, rule: str, at: int | Node) -> None:
        super().__init__(rule)
        self.line = at.start_mark.line + 1 if isinstance(at, Node) else at


@contextmanager
def judged() -> Iterator[list[Node]]:
    """Judge each file that Hydra reads meanwhile, and collect what is in them; raise ConfigError for a fault."""
    nodes: list[Node] = []
    known: set[Path] = set()

    def judge(path: Path) -> None:
        if path not in known and not path.is_relative_to(conf_dir()):
            known.add(path)
            nodes.extend(filter(None, [content(path)]))

    with files_seen(judge):
        yield nodes


def content(path: Path) -> Node | None:
    """Return what is in a YAML file, None for nothing; raise ConfigError for a file that cannot be settings."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ConfigError(f"{path} must have at most {MOST_BYTES:,} bytes, got {size:,}; settings need few")
        written = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} must be a file of settings, got one that cannot be read ({error.strerror})"
        ) from None
    try:
        return _content(written, str(path))
    except _Fault as fault:
        raise ConfigError(f"{path}, line {fault.line}, {fault}") from None


def place(full_key: str, files: Sequence[Node]) -> str:
    """Return the file and line that set a key, nearest to it in what the files say; nothing where none does."""
    path = re.sub(r"\[\d+\]", "", full_key).split(".")
    found = [(len(at), key) for file in files for at, key in _keys(file, ()) if list(at) == path[-len(at) :]]
    if not found:
        return ""
    mark = max(reversed(found), key=lambda each: each[0])[1].start_mark
    return f" ({mark.name}, line {mark.line + 1})"


def _keys(node: Node, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Node]]:
    for key, value in node.value if isinstance(node, MappingNode) else ():
        yield (*above, key.value), key
        yield from _keys(value, (*above, key.value))


def _content(written: bytes, name: str) -> Node | None:
    try:
        text = written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = written[: error.start].count(b"\n") + 1
        raise _Fault(f"must be UTF-8, got byte 0x{written[error.start]:02x}; save it as UTF-8", line) from None
    lines = text[:512].splitlines()
    for number in range(1, len(lines) + 1):
        if problem := header_problem("\n".join(lines[:number])):
            raise _Fault(f"must be # @package NAME where it begins with # @, got: {problem}", number)
    return _document(text, name)


def _document(text: str, name: str) -> Node | None:
    """Return the document in a text, after a look at all that is in it."""
    loader: Any = None
    try:
        loader = yaml_loader()(text)
        loader.name = name
        node: Node | None = loader.get_single_node()
        if node is None or node.tag == f"{OURS}null":
            return None
        if not isinstance(node, MappingNode):
            raise _Fault(f"must begin settings, KEY: VALUE, got {_shown(node)}", node)
        _measured(node, {}, ())
        loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _Fault(f"must be text, got the character {text[error.position]!a}", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Fault(f"must be YAML, got: {error.problem or error.context}", mark.line + 1 if mark else 1) from None
    except RecursionError:
        raise _Fault(f"must be at most {DEEPEST} sections or lists deep, got more", loader.line + 1) from None
    except (OverflowError, ValueError) as error:
        raise _Fault(f"must be YAML, got: {error}", loader.line + 1 if loader else 1) from None
    _require_defaults(node)
    return node


def _measured(node: Node, known: dict[int, tuple[int, int]], above: tuple[Node, ...]) -> tuple[int, int]:
    """Return how many values a node has with its aliases written out, and how deep they lie; judge each of them."""
    if any(node is each for each in above):
        raise _Fault("must come to an end, got an alias of what it lies in", node)
    if id(node) not in known:
        _require_setting(node)
        inside = [each for pair in node.value for each in pair] if isinstance(node, MappingNode) else node.value
        found = [] if isinstance(node, ScalarNode) else [_measured(each, known, (*above, node)) for each in inside]
        known[id(node)] = 1 + sum(size for size, _ in found), 1 + max((depth for _, depth in found), default=0)
    size, depth = known[id(node)]
    if size > MOST_VALUES:
        raise _Fault(f"must have at most {MOST_VALUES:,} values with its aliases written out, got {size:,}", node)
    if depth > DEEPEST:
        raise _Fault(f"must be at most {DEEPEST} sections or lists deep, got {depth}", node)
    return size, depth


def _require_setting(node: Node) -> None:
    """Raise for what settings do not have: tags, a key twice, a key that is no text, a variable without an end."""
    if node.tag not in TAGS:
        raise _Fault(f"must be plain YAML, got the tag {node.tag.replace(OURS, '!!')[:SHOWN]}; leave it out", node)
    if isinstance(node, MappingNode):
        _require_keys([key for key, _ in node.value])
    elif node.tag in NUMBERS:
        try:
            yaml_loader()("").construct_document(node)
        except ValueError as error:
            raise _Fault(f"must have a number, got {_shown(node)} ({error})", node) from None
    elif isinstance(node, ScalarNode):
        if any("\ud800" <= each <= "\udfff" for each in node.value):
            raise _Fault(f"must be text, got half of a character in {_shown(node)}", node)
        if problem := interpolation_problem(node.value):
            raise _Fault(
                f"must have a whole ${{KEY}} or none, got {_shown(node)} ({problem}); \\${{ are plain letters", node
            )


def _require_keys(keys: list[Node]) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key in keys:
        if not isinstance(key, ScalarNode) or key.tag == f"{OURS}null":
            raise _Fault(f"must have texts as keys, got {_shown(key)}; put it in quotes", key)
        name = (key.tag, key.value)
        if name in lines and key.tag != f"{OURS}merge":
            raise _Fault(f"must have each key once, got {_shown(key)} in line {lines[name]} too; leave one out", key)
        lines[name] = key.start_mark.line + 1


def _require_defaults(node: Node) -> None:
    """Raise for a defaults list that is none of Hydra's."""
    for key, value in node.value:
        if key.value != "defaults":
            continue
        if not isinstance(value, SequenceNode):
            raise _Fault(f"must have a list of files as defaults, got {_shown(value)}; write defaults: [...]", value)
        for each in value.value:
            if not (_is_text(each) or (isinstance(each, MappingNode) and _is_choice(each))):
                raise _Fault(
                    f"must have FILE or GROUP: FILE in its defaults, got {_shown(each)}; for example /model: minilm",
                    each,
                )


def _is_choice(node: MappingNode) -> bool:
    """Return whether a part of a defaults list is GROUP: FILE, GROUP: [FILE, FILE] or GROUP: null."""
    if len(node.value) != 1:
        return False
    ((group, chosen),) = node.value
    files = chosen.value if isinstance(chosen, SequenceNode) else [chosen]
    return _is_text(group) and (chosen.tag == f"{OURS}null" or all(map(_is_text, files)))


def _is_text(node: Node) -> bool:
    return node.tag == f"{OURS}str" and bool(node.value)


def _shown(node: Node) -> str:
    """Return a node in a few words, as it is written."""
    if isinstance(node, ScalarNode):
        shown = node.value if node.value.isprintable() else ascii(node.value)
        return shown[:SHOWN] or "nothing"
    return "a list" if isinstance(node, SequenceNode) else "a section"
