"""LaTeX: a table for booktabs, with the notes as comments under it."""

import re
from collections.abc import Iterable

from molex_cli.compare.layout import CellText, Report, matrix
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
# What pdflatex prints as it is: ASCII, and the European letters and signs that its default fonts have.
LACKS = frozenset("«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")
PRINTS = frozenset(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x180)])) - LACKS | frozenset("—‘’“”…•€™")


def text(report: Report) -> str:
    """Return the report in LaTeX."""
    head, lines = matrix(report.table)
    content = [
        r"% needs \usepackage{booktabs,amssymb}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        _line(map(escaped, head)),
        r"\midrule",
        *(_line([escaped(name), *map(_cell, cells)]) for name, cells in lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*content, *(f"% {_one_line(note)}" for note in report.lines())]) + "\n"


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
