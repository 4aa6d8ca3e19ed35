"""LaTeX: a table for booktabs, with the notes as comments under it."""

from collections.abc import Iterable

from molex_cli.compare.layout import CellText, Report, matrix

LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "[": "{[}", "]": "{]}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "°": r"$^\circ$", "†": r"$^\dagger$",
    "‡": r"$^\ddagger$", "ᵖ": r"$^{\mathrm{p}}$", "▽": r"$\triangledown$", "Δ": r"$\Delta$", "⋈": r"$\bowtie$",
    "□": r"$\square$", "◇": r"$\lozenge$", "α": r"$\alpha$",
}  # fmt: skip


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
    return "\n".join([*content, *(f"% {note}" for note in report.lines())]) + "\n"


def escaped(content: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(LATEX.get(character, character) for character in content)


def _cell(cell: CellText) -> str:
    shown = escaped(cell.text)
    return f"\\textbf{{{shown}}}" if cell.is_best else f"\\underline{{{shown}}}" if cell.is_close else shown


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
