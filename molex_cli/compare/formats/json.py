"""JSON: cells with their seeds, differences and runs, and all notes."""

from dataclasses import asdict

from molex_cli.compare.layout import Report, facts
from molex_cli.records import as_json
from molex_cli.runtime.streams import visible


def text(report: Report) -> str:
    """Return everything as JSON."""
    table = report.table
    cells = [
        {
            **known,
            "by_seed": cell.by_seed,
            "difference": asdict(cell.difference) if cell.difference else None,
            "runs": [str(run.folder) for run in cell.runs],
        }
        for known, cell in zip(facts(table), table.cells.values(), strict=True)
    ]
    content = {"which": table.which, "against": table.against, "cells": cells, "notes": report.lines()}
    return visible(as_json(content, indent=2)) + "\n"
