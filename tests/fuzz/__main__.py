"""`make fuzz`: an hour of tries by two processes; what breaks a law is listed at the end, with what repeats it."""

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path

from fuzz.loop import Part, Report, opened, part
from fuzz.runner import Molex
from fuzz.tries import of_json


def main() -> int:
    """Fuzz, or repeat one try; the exit code is 1 where a law was broken."""
    parser = argparse.ArgumentParser("python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (default: an hour)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the first tries")
    parser.add_argument("--only", default="", metavar="REGEX", help="commands that are tried, such as 'compare|diff'")
    parser.add_argument("--again", metavar="JSON", help="repeat one try of a report, and show what the command showed")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what was found so far, again and again")
    options = parser.parse_args()
    if options.again:
        return _again(options.again)
    wanted = {name: getattr(options, name) for name in ("seconds", "workers", "seed", "only", "report")}
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        parts = [Part(number, **wanted) for number in range(options.workers)]
        report = Report()
        for each in pool.imap_unordered(part, parts):
            report.merge(each)
    print(report)
    return int(bool(report.found))


def _again(text: str) -> int:
    with tempfile.TemporaryDirectory(prefix="molex-fuzz-") as folder, Molex(Path(folder)) as molex:
        fuzzer = opened(molex, Path(folder))
        laws = fuzzer.run(of_json(text))
        for name in ("out", "err"):
            sys.stdout.write(f"--- {name}\n{(Path(folder) / 'here' / 'streams' / name).read_text(errors='replace')}")
    print(*(f"broken: {law.law}: {law.detail!r}" for law in laws) if laws else ("held",), sep="\n")
    return int(bool(laws))


if __name__ == "__main__":
    sys.exit(main())
