"""JSON: cells with their seeds, differences and runs, and all else that a report says."""

from dataclasses import asdict
from typing import Any

from molex_cli.compare import tuned_values
from molex_cli.compare.layout import Report, facts
from molex_cli.compare.table import Cell
from molex_cli.records import as_json
from molex_cli.runtime.streams import visible


def text(report: Report) -> str:
    """Return everything as JSON."""
    table = report.table
    cells = [
        {
            **known,
            "by_seed": cell.by_seed,
            "difference": _difference(cell),
            "runs": [str(run.folder) for run in cell.runs],
            **({"tuned": tuned_values.as_data(cell.tuned)} if cell.tuned else {}),
        }
        for known, cell in zip(facts(table), table.cells.values(), strict=True)
    ]
    content = {
        "title": report.title,
        "answers": report.answers,
        "which": table.which,
        "against": table.against,
        "cells": cells,
        "notes": [asdict(note) for notes in report.remarks().values() for note in notes],
        "effects": [asdict(each) for each in report.differences()],
        "sections": [{"title": s.title, "head": s.head, "rows": s.rows, "note": s.note} for s in report.sections],
    }
    return visible(as_json(content, indent=2)) + "\n"


def _difference(cell: Cell) -> dict[str, Any] | None:
    found = cell.difference
    if found is None:
        return None
    return {"compared_with": cell.compared_with, **asdict(found), "detectable": found.detectable}
