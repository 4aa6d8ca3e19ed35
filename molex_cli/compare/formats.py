"""A comparison as a table for the terminal, Markdown, LaTeX, CSV and JSON: one layout, five ways to write it."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from molex_cli.compare.loading import Run
from molex_cli.compare.table import Cell, Comparison
from molex_cli.metrics.base import Metric
from molex_cli.records import as_json

MARKS = {"provisional": "°", "degenerate": "†", "undefined": "‡", "published variant": "ᵖ"}
MEANING = {
    "°": "provisional: fewer than 3 seeds",
    "†": "degenerate: a run predicts a constant, has an undefined score or failed a self-check",
    "‡": "a seed's score is undefined and left out",
    "ᵖ": "reproduces a published implementation, quirks included",
}
COSTS: dict[str, Callable[[Run], float | None]] = {
    "trainable": lambda run: run.record.parameters.get("trainable"),
    "added": lambda run: run.record.parameters.get("added"),
    "routers": lambda run: sum(run.record.parameters.get(part, 0) for part in ("routers", "gates")) or None,
    "head": lambda run: run.record.parameters.get("head"),
    "MFLOPs/token": lambda run: (run.record.flops_per_token.get("active") or math.nan) / 1e6,
    "tokens/s": lambda run: run.record.training.get("tokens_per_second"),
    "peak MB": lambda run: max(run.record.memory_bytes.values(), default=math.nan) / 1e6,
}


@dataclass(frozen=True)
class Written:
    """A cell in words."""

    text: str
    is_best: bool = False
    is_close: bool = False


def scale(metric: Metric) -> float:
    """Return what a score is multiplied with: shares are shown in percent."""
    return 100.0 if metric.high == 1.0 else 1.0


def heading(table: Comparison, col: str) -> str:
    """Return a column's name with its metric, unit and direction."""
    metric = next(iter(table.column(col).values())).metric
    unit = " %" if scale(metric) == 100 else ""
    return f"{col} {metric.name}{unit} {'↑' if metric.higher_is_better else '↓'}"


def written(cell: Cell | None) -> Written:
    """Return mean, standard deviation and number of seeds, with marks."""
    if cell is None:
        return Written("–")
    if math.isnan(cell.mean):
        return Written("undefined" + _marks(cell))
    times = scale(cell.metric)
    spread = "" if math.isnan(cell.deviation) else f" ± {cell.deviation * times:.2f}"
    return Written(f"{cell.mean * times:.2f}{spread} ({len(cell.by_seed)}){_marks(cell)}", cell.is_best, cell.is_close)


def _marks(cell: Cell) -> str:
    return "".join(MARKS[note] for note in cell.notes)


def matrix(table: Comparison) -> tuple[list[str], list[tuple[str, list[Written]]]]:
    """Return the headings and, for each arm, its name and cells: scores, then costs."""
    head = [" ".join(table.row_keys) or "arm", *(heading(table, col) for col in table.cols), *COSTS]
    lines = []
    for row in table.rows:
        cells = [written(table.cells.get((row, col))) for col in table.cols]
        lines.append((table.display.get(row, row), [*cells, *(Written(_cost(table, row, name)) for name in COSTS)]))
    return head, lines


def _cost(table: Comparison, row: str, name: str) -> str:
    values = [value for run in table.runs_of(row) if (value := COSTS[name](run)) is not None]
    mean = sum(values) / len(values) if values else math.nan
    return "–" if math.isnan(mean) else f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"


def legend(table: Comparison) -> list[str]:
    """Return what the marks of this table mean, and how it was made."""
    rule = "the last evaluation" if table.which == "last" else _selection(table)
    used = {note for cell in table.cells.values() for note in cell.notes}
    lines = [f"scores of {rule}; mean ± standard deviation over seeds (number of seeds)"]
    if table.against is None:
        test = f"paired test, {table.adjust} over all pairs, α = 0.05"
        lines.append(f"bold: best of its column; underlined: not significantly different from it ({test})")
    else:
        lines.append("bold: best of its column")
    return [*lines, *(f"{mark} {MEANING[mark]}" for note, mark in MARKS.items() if note in used)]


def _selection(table: Comparison) -> str:
    rules = {run.record.scores["selection"] for cell in table.cells.values() for run in cell.runs}
    return "the best evaluation: " + " / ".join(sorted(rules))


def differences(table: Comparison) -> list[str]:
    """Return a line for each test: difference, interval, p-values, and what could have been found."""
    lines = []
    for col in table.cols:
        column = table.column(col)
        base = table.against or next((row for row, cell in column.items() if cell.is_best), "")
        lines += [_difference(table, row, base, col, cell) for row, cell in column.items() if cell.difference]
    return lines


def _difference(table: Comparison, row: str, base: str, col: str, cell: Cell) -> str:
    found = cell.difference
    assert found is not None
    if not found.seeds:
        return f"{col}: {table.display.get(row, row)} and {table.display.get(base, base)} have no seed in common"
    times, interval, n = scale(cell.metric), found.interval, len(found.seeds)
    bounds = (
        f"[{interval.low * times:+.2f}, {interval.high * times:+.2f}]" if math.isfinite(interval.low) else "unknown"
    )
    parts = [
        f"{col}: {table.display.get(row, row)} - {table.display.get(base, base)} = {interval.estimate * times:+.2f}"
    ]
    parts += [f"95 % {bounds} over {found.over}", f"p {found.adjusted:.3g} ({table.adjust})"]
    least = 2.0 ** (1 - n) if n else 1.0
    cannot = f", which {_seeds(n)} cannot bring below {least:.3g}" if least >= 0.05 else ""
    parts.append(f"permutation over seeds {found.permutation:.3g}{cannot}")
    if found.mcnemar is not None:
        parts.append(f"McNemar {found.mcnemar:.3g}")
    if math.isfinite(found.detectable):
        parts.append(f"{_seeds(n)} find {found.detectable * times:.2f} with 80 % power")
    if found.adjusted >= 0.05 and math.isfinite(found.detectable) and interval.estimate:
        needed = "more seeds alone would not find this difference"
        parts.append(needed if found.needed is None else f"this difference would need about {found.needed} seeds")
    return ", ".join(parts)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def markdown(table: Comparison, notes: Sequence[str]) -> str:
    """Return a Markdown table with the notes under it."""
    head, lines = matrix(table)

    def cell(each: Written) -> str:
        text = each.text.replace("|", "\\|")
        return f"**{text}**" if each.is_best else f"<u>{text}</u>" if each.is_close else text

    rows = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    rows += [f"| {name} | {' | '.join(map(cell, cells))} |" for name, cells in lines]
    return "\n".join([*rows, "", *(f"- {note}" for note in notes)]) + "\n"


def latex(table: Comparison, notes: Sequence[str]) -> str:
    """Return a LaTeX table for booktabs; the notes are comments under it."""
    head, lines = matrix(table)

    def cell(each: Written) -> str:
        text = _escaped(each.text)
        return f"\\textbf{{{text}}}" if each.is_best else f"\\underline{{{text}}}" if each.is_close else text

    rows = [" & ".join(map(_escaped, head)) + r" \\"]
    body = [" & ".join([_escaped(name), *map(cell, cells)]) + r" \\" for name, cells in lines]
    columns = "l" + "r" * (len(head) - 1)
    content = [
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *rows,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(["% needs \\usepackage{booktabs,amssymb}", *content, *(f"% {note}" for note in notes)]) + "\n"


LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "°": r"$^\circ$", "†": r"$^\dagger$",
    "‡": r"$^\ddagger$", "ᵖ": r"$^{\mathrm{p}}$", "▽": r"$\triangledown$", "Δ": r"$\Delta$", "⋈": r"$\bowtie$",
    "□": r"$\square$", "◇": r"$\lozenge$", "α": r"$\alpha$",
}  # fmt: skip


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def as_csv(table: Comparison) -> str:
    """Return one line for each cell, with numbers as they are."""
    out = io.StringIO()
    lines = [_facts(table, row, col, cell) for (row, col), cell in table.cells.items()]
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "" if isinstance(v, float) and math.isnan(v) else v for key, v in line.items()} for line in lines
    )
    return out.getvalue()


def as_json_text(table: Comparison, notes: Sequence[str]) -> str:
    """Return everything as JSON: cells, differences, runs and notes."""
    cells = []
    for (row, col), cell in table.cells.items():
        found = asdict(cell.difference) if cell.difference else None
        runs = [str(run.folder) for run in cell.runs]
        cells.append({**_facts(table, row, col, cell), "by_seed": cell.by_seed, "difference": found, "runs": runs})
    return (
        as_json({"which": table.which, "against": table.against, "cells": cells, "notes": list(notes)}, indent=2) + "\n"
    )


def _facts(table: Comparison, row: str, col: str, cell: Cell) -> dict[str, Any]:
    costs = {name.replace("/", "_per_").replace(" ", "_"): _mean(cell.runs, value) for name, value in COSTS.items()}
    return {
        "row": row,
        "name": table.display.get(row, row),
        "col": col,
        "metric": cell.metric.name,
        "mean": cell.mean,
        "sd": cell.deviation,
        "n": len(cell.by_seed),
        "best": cell.is_best,
        "not_significantly_different_from_best": cell.is_close,
        "notes": "; ".join(cell.notes),
        **costs,
    }


def _mean(runs: Sequence[Run], value: Callable[[Run], float | None]) -> float:
    known = [found for run in runs if (found := value(run)) is not None]
    return sum(known) / len(known) if known else math.nan
