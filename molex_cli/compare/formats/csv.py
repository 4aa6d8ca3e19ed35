"""CSV: one line for each cell, with numbers as they are."""

import csv
import io
import math

from molex_cli.compare.layout import Report, facts


def text(report: Report) -> str:
    """Return the cells as CSV; what is unknown is empty."""
    lines = facts(report.table)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({key: "" if isinstance(v, float) and math.isnan(v) else v for key, v in line.items()})
    return out.getvalue()
