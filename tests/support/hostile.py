"""Records whose every text is hostile, and what such a text may be."""

import json
import re
from dataclasses import fields
from pathlib import Path

from hypothesis import strategies as st

from molex_cli.compare.confounds import confounds
from molex_cli.compare.effects import Effect, effects
from molex_cli.compare.layout import Report, Section
from molex_cli.compare.loading import Run
from molex_cli.compare.remarks import Heading, Note
from molex_cli.compare.table import compare
from molex_cli.records import Record, write_record
from support.made_records import made

SCRIPT = "<script>document.title='owned'</script>"
PIECES = (
    SCRIPT, '0">' + SCRIPT, "</style>", "</script>", "<!--", "-->", "<img src=x onerror=alert(1)>", "' onclick=a b='",
    "&lt;", "{{ 7*7 }}", "{% raw %}", "\\input{secret}", "\\write18{x}", "^^5cinput", "%", "\\", "$x$", "--", "`'", "*",
    "=cmd|'/c calc'!A0", "+1+1", "-2+3", "@SUM(1)", ";=1+1", '","', "\t=1", "\r=1", "| a | b |", "[x](javascript:a)",
    "![x](http://e.x/y)", "http://e.x", "www.e.x", "`a`", "**b**", "_c_", "<b>", "# h", "- i", "1. j", "---", "~~~",
    "> q", "?`", "\n", "\n\n", "\r\n", "\x00", "\x07", "\x08", "\x1b[2J", "\x1b]0;t\x07", "\x7f", "\x85", "\x9b5n",
    "\u202e", "\u2066", "\u2028", "\ufeff", "\ud800", "▽", "\udc80", "\U000e0041", "中", "é", "😀", " ", "  ", "ſ", "a",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), min_size=1, max_size=6).map("".join)
ARMS = ("a", "b", "c")
KNOWN = {"status", "seed", "variant"}  # what other values of it are no record of a finished run


def report(text: str) -> Report:
    """Return the report on three arms whose records have a text in every field of text, without pictures."""
    runs = [Run(_folder(text, method, seed), _record(text, method, seed)) for method in ARMS for seed in range(2)]
    for run in runs:
        run.record.seed = f"{run.record.seed}{text}"  # no record that is read has such a seed; no format relies on it
        run.record.parameters, run.record.training = {}, {}  # without costs nothing is drawn
    table = compare(runs, ["method"], ["task"], "best")
    told = f"{text} verdict", f"{text} detail", f"{text} unit"
    own = Effect(f"{text} task", f"a{text}", f"{text}b", 1.0, -1.0, 3.0, 0.5, 3, *told)
    rows = [[text, "1"], ["b", f"{text} cell"]]
    return Report(
        table,
        [Note(Heading.claims, f"claim {text}"), *confounds(table)],
        title=f"{text} title",
        answers=[f"{text} answer", f"another {text}"],
        effects=[*effects(table), own],
        sections=[Section(f"{text} section", ["name", f"{text} head"], rows, f"{text} note")],
    )


def leave(text: str) -> None:
    """Write such records below `outputs`, with learning curves and experts."""
    for method in ARMS:
        for seed in range(2):
            folder, record = _folder(text, method, seed), _record(text, method, seed)
            record.routing, record.started = (
                {"0": {"usage": [0.5, 0.5]}},
                "",
            )  # these are read as what they are
            folder.mkdir(parents=True)
            write_record(folder, record)
            event = {"event": "evaluated", "step": 5, "scores": {"accuracy": 0.5}, "split": text}
            (folder / "events.jsonl").write_text(json.dumps(event) + "\n")


def _folder(text: str, method: str, seed: int) -> Path:
    """Return a folder with what a name can have of a text."""
    return Path("outputs") / (f"{method}{seed}" + re.sub("[/\0\ud800-\udc7f\udd00-\udfff]", "", text)[:30])


def _record(text: str, method: str, seed: int) -> Record:
    plain = made(method, seed, 0.5 + 0.1 * ARMS.index(method))
    plain.environment["hardware"] = {"gpu": "gpu"}
    plain.settings["train"][f"own {text}"] = plain.environment["packages"][f"own {text}"] = method
    plain.evaluation["positive"] = "yes"
    plain.degenerate.append("collapsed")
    for field in fields(plain):
        if field.name not in KNOWN:
            is_cut = field.name in ("data", "environment")  # the lines on them show the first letters
            own = f"{method}{text}" if is_cut else f"{text}{method}"
            setattr(plain, field.name, _hostile(getattr(plain, field.name), own))
    plain.settings["task"] = {"name": f"{text} task"}  # one column for all
    plain.scores["metric"] = "accuracy"
    plain.variant = method
    return plain


def _hostile(value, text):
    """Return a value with a text before every string but numbers in base 64."""
    if isinstance(value, dict):
        return {key: each if key == "correctness" else _hostile(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [_hostile(each, text) for each in value]
    return f"{text}{value}" if isinstance(value, str) else value
