"""Hostile text in every field of every record: what each format makes of it, and what a browser and LaTeX do."""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import example, given, settings
from markdown_it import MarkdownIt
from support import hostile

from molex_cli.compare import figure, formats
from molex_cli.compare.formats.latex import LATEX
from molex_cli.runtime.streams import visible

SIMPLE = "simple"
CLIPS = {"clipPath", "rect"}


def unseen(text):
    """Return the characters that act on a terminal instead of being shown."""
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]


class Parsed(HTMLParser):
    """What a page is made of: its elements, the names of their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.made, self.text = Counter(), []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag != "text":  # of a picture, in which a long name takes several
            self.made[tag, tuple(name for name, _ in attrs)] += 1

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        self.made["comment"] += 1

    handle_pi = handle_decl = unknown_decl = handle_comment


def html(shown, simple, text):
    page, plain = Parsed(shown), Parsed(simple)
    assert page.made == plain.made
    assert visible(text) in "".join(page.text)


def latex(shown, simple, text):
    assert [line[:2] for line in shown.split("\n") if line[:1] == "%"] == ["% "] * simple.count("\n%", 1) + ["% "]
    rows, plain = ([*re.findall(r"^(?!%).*$", each, re.M), *tabulars(each)] for each in (shown, simple))
    assert len(rows) == len(plain)
    own = {*re.findall(r"\\[a-zA-Z]+", simple + "".join(LATEX.values())), r"\textbf", r"\underline"}
    for row, other in zip(rows, plain, strict=True):
        assert set(re.findall(r"\\[a-zA-Z]+", row)) <= own
        bare = re.sub(r"\$[^$]+\$", "", re.sub(r"\\[&%$#_{}]", "", row))  # without what is escaped, and our formulas
        bare, other = (each.replace(r" \\ ", " ") if "shortstack" in each else each for each in (bare, other))
        assert Counter(re.findall(r"[&%$#_^~]|\\\\", bare)) == Counter(re.findall(r"&|\\\\", other))
        assert bare.count("{") == bare.count("}")
        assert not re.search(r"--|\\\\ *[*\[]", bare)


def tabulars(text):
    """Return the lines of tables that stand in comments, as they are when somebody takes the comment signs away."""
    found = re.findall(r"^(% \\begin\{tabular\}.*?)^% \\end\{tabular\}$", text, re.M | re.S)
    return [line.removeprefix("% ") for each in found for line in each.splitlines()]


def md(shown, simple, text):
    tokens, plain = (MarkdownIt("commonmark").enable("table").parse(each) for each in (shown, simple))
    assert [token.type for token in tokens] == [token.type for token in plain]
    for token, other in zip(tokens, plain, strict=True):
        parts, others = ([each for each in one.children or () if each.type != "text"] for one in (token, other))
        kept = [each for each in parts if each.type != "text_special"]  # an escape
        assert [(each.type, each.markup) for each in kept] == [(each.type, each.markup) for each in others]
    content = "".join(each.content for token in tokens for each in token.children or ())
    assert "".join(visible(text).split()) in "".join(content.split())
    assert not re.search(r"https?://|www\.", shown)  # GitHub makes links of them


def csv_(shown, simple, text):
    lines, plain = (list(csv.DictReader(io.StringIO(each, newline=""))) for each in (shown, simple))
    assert len(lines) == len(plain) == 3
    for line, other in zip(lines, plain, strict=True):
        assert line.keys() == other.keys()
        assert line["mean"] == other["mean"]
        assert not any(re.match(r"\s*[=+\-@\t\r＝＋－＠]", cell) for cell in line.values())
        assert visible(text) in line["col"]


def json_(shown, simple, text):
    found, plain = json.loads(shown), json.loads(simple)
    assert found.keys() == plain.keys()
    text = json.loads(json.dumps(text))  # two halves of a character that meet are one
    assert text in found["cells"][0]["col"]
    assert found["answers"] == [f"{text} answer", f"another {text}"]
    assert found["effects"][-1]["verdict"] == f"{text} verdict"
    assert found["sections"][0]["rows"] == [[text, "1"], ["b", f"{text} cell"]]
    assert found["notes"][0]["text"] == plain["notes"][0]["text"].replace(SIMPLE, text)


def table(shown, simple, text):
    assert "".join(visible(text).split()) in "".join(shown.split())


LAWS = {"html": html, "latex": latex, "md": md, "csv": csv_, "json": json_, "table": table}


@settings(max_examples=20, derandomize=True)
@given(text=hostile.TEXTS)
@example(text="".join(hostile.PIECES))
def test_no_text_of_a_record_is_more_than_text_in_any_format(text):
    report = hostile.report(text)
    for name in formats.names():
        shown = formats.text(name, report)
        LAWS[name](shown, simple(name), text)
        assert not unseen(shown)


@settings(max_examples=5, derandomize=True)
@given(text=hostile.TEXTS)
@example(text="".join(hostile.PIECES))
@example(text="$x_$ {^")
def test_no_text_of_a_record_is_more_than_text_in_a_figure(text):
    report = hostile.report(text)
    for kind in ("differences", "scores"):
        figure.write(report, Path("figure.svg"), kind=kind)
        drawn = ElementTree.parse("figure.svg")
        made = {each.tag.rpartition("}")[2] for each in drawn.iter()}
        assert made <= {"svg", "metadata", "RDF", "Work", "type", "format", "defs", "style", "g", "path", "use", *CLIPS}
        assert not {key for each in drawn.iter() for key in each.attrib if key.startswith("on")}


@cache
def simple(name):
    """Return what a format makes of records without anything hostile."""
    return formats.text(name, hostile.report(SIMPLE))
