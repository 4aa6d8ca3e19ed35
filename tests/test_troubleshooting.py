"""Every line that docs/troubleshooting.md quotes is one that the code prints, by the fixed parts of its message."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/troubleshooting.md"
QUOTED = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
BEFORE = re.compile(r"^(?:molex: |failed: |left out: |note: this run is marked degenerate: )")
FORM = re.compile(r" must be | must |,? got:? |\W")  # what messages share
LEAST_FIXED = 9  # letters that a message has beside it: fewer would fit anything
MORE = r"(?:(?:, got|;) .*)?"  # a rule may stand alone, and a way out be added


def lines() -> list[str]:
    """Return the quoted lines."""
    return "".join(QUOTED.findall(PAGE.read_text(encoding="utf-8"))).splitlines()


@cache
def messages() -> list[re.Pattern[str]]:
    """Return an expression for each text of the code, in which a value may be anything."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "molex_cli").rglob("*.py")]
    return [pattern for tree in trees for pattern in expressions(tree)]


def expressions(tree: ast.AST) -> Iterator[re.Pattern[str]]:
    """Yield those of a file; a part of a longer text is none of its own."""
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in joined for part in node.values}
    alone = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in parts]
    for pieces in [*(node.values for node in joined), *([node] for node in alone)]:
        fixed = [str(each.value) if isinstance(each, ast.Constant) else None for each in pieces]
        if len(FORM.sub("", " ".join(filter(None, fixed)))) >= LEAST_FIXED:
            if next(filter(None, fixed)).startswith("; "):
                continue  # a way out, whatever it is one of
            # A problem of a section begins with its key, which is put before it.
            yield re.compile(r"\S*" + "".join(".*" if text is None else re.escape(text) for text in fixed) + MORE)


def is_printed(line: str) -> bool:
    """Return whether a message of the code may read so."""
    said = BEFORE.sub("", line)
    return any(message.fullmatch(said) for message in messages())


def test_the_page_quotes_lines():
    assert len(lines()) > 50


@pytest.mark.parametrize("line", lines())
def test_a_quoted_line_is_printed_by_the_code(line):
    assert is_printed(line)


def test_a_line_that_no_code_prints_is_found():
    assert not is_printed("molex: train.colour must be blue, got green; paint it")
    assert not is_printed("molex: paths must hold ended runs, got none in outputs")
