"""Golden files: what a command writes, kept and read by people; only `make golden` writes them."""

import os
from pathlib import Path

RENEW = "MOLEX_RENEW_GOLDEN"


def assert_golden(shown: str, path: Path) -> None:
    """Fail unless a text is that of a golden file, a missing one included."""
    if os.environ.get(RENEW):
        path.write_text(shown, encoding="utf-8")
    way_out = f"`make golden` ({RENEW}=1 pytest -k golden) writes it; read `git diff` before you commit it"
    assert path.exists(), f"the golden file {path.name} is missing; {way_out}"
    assert shown == path.read_text(encoding="utf-8"), f"{path.name} is another; if that is meant, {way_out}"
