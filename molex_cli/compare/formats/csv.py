"""CSV: one line for each cell, with numbers as they are; no text is a formula of a spreadsheet."""

import csv
import io
import math
import re
from typing import Any

from molex_cli.compare.layout import Report, facts
from molex_cli.runtime.streams import visible

FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")  # as OWASP lists them; a tab or a return is escaped before


def text(report: Report) -> str:
    """Return the cells as CSV; what is unknown is empty."""
    lines = facts(report.table)
    out = io.StringIO()
    # Every text is in quotes: a spreadsheet that separates by semicolons would find cells of its own in others.
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows({key: escaped(value) for key, value in line.items()} for line in lines)
    return out.getvalue()


def escaped(value: Any) -> Any:
    """Return a cell that no spreadsheet computes: a text that would be a formula begins with a quote."""
    if isinstance(value, str):
        return f"'{visible(value)}" if FORMULA.match(value) else visible(value)
    return "" if isinstance(value, float) and math.isnan(value) else value
