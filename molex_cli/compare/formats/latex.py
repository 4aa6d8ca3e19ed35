"""LaTeX: a table for booktabs; the notes and further tables as comments, from which these can be copied."""

import re
from collections.abc import Iterable, Sequence
from textwrap import wrap

from molex_cli.compare.effects import HEAD, in_words
from molex_cli.compare.layout import COSTS, CellText, Report, Section, columns, matrix
from molex_cli.compare.remarks import Note
from molex_cli.runtime.streams import visible

LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "[": "{[}", "]": "{]}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "*": "{*}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",  # a star would belong to the \\ before it
    "±": r"$\pm$", "≤": r"$\leq$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": r"\textendash{}", "°": r"$^\circ$",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "ᵖ": r"$^{\mathrm{p}}$", "▽": r"$\triangledown$", "Δ": r"$\Delta$",
    "□": r"$\square$", "⋈": r"$\bowtie$", "◇": r"$\lozenge$", "α": r"$\alpha$",
}  # fmt: skip
# Columns that stand in a table when they are named: without them three arms on two tasks fit the text of a page.
ON_REQUEST = ("collapsed", *(name for name in COSTS if name != "trainable"))
HEADING = 14  # letters of a heading's line
# What pdflatex prints as it is: ASCII, and the European letters and signs that its default fonts have.
LACKS = frozenset("«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")
PRINTS = frozenset(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x180)])) - LACKS | frozenset("—‘’“”…•€™")


def text(report: Report) -> str:
    """Return the report in LaTeX; what is no comment is the table of arms alone."""
    shown = report.columns or [column.name for column in columns(report.table) if column.name not in ON_REQUEST]
    head, lines = matrix(report.table, shown)
    rows = [[escaped(name), *map(_cell, cells)] for name, cells in lines]
    arms = _tabular(map(_heading, head), rows, [False, *[True] * len(head[1:])])
    found = report.differences()
    differences = Section("Differences", HEAD, list(map(in_words, found)))
    details = [f"{each.one} - {each.other}, {each.column}: {each.detail}" for each in found if each.detail]
    content = [
        *_comments([report.title] if report.title else []),
        *_comments(report.answers),
        r"% needs \usepackage{booktabs,amssymb}",
        *([] if report.columns else [f"% without {', '.join(ON_REQUEST)}: --columns all has them"]),
        *(_floating(arms, report.caption, report.label) if report.caption else arms),
        *(line for heading, notes in report.remarks().items() for line in _group(heading, notes)),
        *(_section(differences) if found else []),
        *_comments(details),
        *(line for each in report.sections for line in _section(each)),
    ]
    return "\n".join(content) + "\n"


def _group(heading: str, notes: Iterable[Note]) -> list[str]:
    return [f"% {heading}", *(f"%   {_one_line(note.text)}" for note in notes)]


def _comments(lines: Iterable[str]) -> list[str]:
    return [f"% {_one_line(line)}" for line in lines]


def _tabular(head: Iterable[str], rows: Iterable[Iterable[str]], numeric: Iterable[bool]) -> list[str]:
    return [
        rf"\begin{{tabular}}{{@{{}}{''.join('r' if each else 'l' for each in numeric)}@{{}}}}",
        r"\toprule",
        _line(head),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _floating(table: Sequence[str], caption: str, label: str) -> list[str]:
    """Return a table that LaTeX places, with its caption and, if it has one, its label."""
    labelled = [rf"\label{{{label}}}"] if label else []
    first = [r"\begin{table}", r"\centering", rf"\caption{{{escaped(caption)}}}", *labelled]
    return [*first, r"\smallskip", *table, r"\end{table}"]


def _heading(content: str) -> str:
    """Return a heading, a long one in several lines."""
    lines = wrap(visible(content), HEADING, break_long_words=False, break_on_hyphens=False)
    stacked = r" \\ ".join(map(escaped, lines))
    return rf"\shortstack[r]{{{stacked}}}" if len(lines) > 1 else stacked


def _section(section: Section) -> list[str]:
    """Return a further table, as comments: a document that inputs the file shows the table of arms."""
    table = _tabular(map(escaped, section.head), (map(escaped, row) for row in section.rows), section.numeric())
    return [*_comments([section.title]), *(f"% {line}" for line in table), *_comments(filter(None, [section.note]))]


def escaped(content: str) -> str:
    """Return text that LaTeX prints as it is; what pdflatex has no letter for as its code point, `U+4E2D`."""
    shown = "".join(LATEX.get(c) or (c if c in PRINTS else f"U+{ord(c):04X}") for c in _one_line(content))
    return re.sub("([-,])(?=[-,])", r"\1{}", shown)  # two hyphens or commas would be one sign


def _one_line(content: str) -> str:
    return " ".join(visible(content).split())  # a comment ends with its line, a paragraph with an empty one


def _cell(cell: CellText) -> str:
    shown = escaped(cell.text)
    return f"\\textbf{{{shown}}}" if cell.is_best else f"\\underline{{{shown}}}" if cell.is_close else shown


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
