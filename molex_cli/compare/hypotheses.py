"""Hypotheses, the verdict of the runs on each, and whether its file is older than they are."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from molex_cli.compare.differences import Difference, difference
from molex_cli.compare.layout import bounds, scale
from molex_cli.compare.loading import Run
from molex_cli.compare.table import ALPHA, Comparison
from molex_cli.errors import ConfigError, nearest
from molex_cli.runtime.paths import require_file
from molex_cli.statistics import paired

SENTENCE = re.compile(r"^\s*(?P<better>.+?)\s+>\s+(?P<than>.+?)\s+on\s+(?P<on>.+?)\s*$")
KEYS = ("claim", "seeds", "alpha")
FILE_TIME = (
    "that a claim came before its runs is judged by the time of its file alone, which anybody can set: "
    "no flag is no proof, a published version of the file is"
)


@dataclass(frozen=True)
class Claim:
    """The hypothesis that one arm is better than another in a column."""

    better: str
    than: str
    on: str
    alpha: float = ALPHA
    seeds: tuple[int, ...] | None = None
    """The seeds that were planned to decide it; None for any."""

    def __str__(self) -> str:
        return f"{self.better} > {self.than} on {self.on}"


@dataclass(frozen=True)
class Verdict:
    """Whether the runs support a claim."""

    claim: Claim
    result: str
    """supported, contradicted, undecided or not run."""
    difference: Difference | None
    flags: list[str]
    """Where the claim's file is younger than its runs, or they are not those that were planned."""


def read_claims(path: Path) -> list[Claim]:
    """Read a YAML list of sentences, or of `claim`, `seeds`, `alpha`; raise ConfigError on what is wrong in which."""
    try:
        content = yaml.safe_load(require_file(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--claims must be a YAML file, got {path} ({' '.join(str(error).split())})") from None
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{path} must be a list of claims, such as: - mola_inverted > lora on glue/rte")
    return [_claim(path, number, entry) for number, entry in enumerate(content, start=1)]


def _claim(path: Path, number: int, entry: Any) -> Claim:
    given = entry if isinstance(entry, dict) else {"claim": entry}
    for key in given:
        if key not in KEYS:
            raise ConfigError(
                f"{path}, claim {number} must have {', '.join(KEYS)}, got {key}; {nearest(str(key), KEYS)}"
            )
    found = SENTENCE.match(str(given.get("claim")))
    if found is None:
        raise ConfigError(f"{path}, claim {number} must read `ARM > ARM on COLUMN`, got {given.get('claim')}")
    alpha, seeds = given.get("alpha", ALPHA), given.get("seeds")
    if not isinstance(alpha, float) or not 0 < alpha < 1:
        raise ConfigError(f"{path}, claim {number}: alpha must be between 0 and 1, got {alpha}")
    if seeds is not None and not (isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds)):
        raise ConfigError(f"{path}, claim {number}: seeds must be a list of whole numbers, got {seeds}")
    return Claim(**found.groupdict(), alpha=alpha, seeds=None if seeds is None else tuple(seeds))


def verdicts(claims: Sequence[Claim], table: Comparison, changed: datetime) -> list[Verdict]:
    """Return a verdict on each claim, adjusted for all of them (Holm); `changed` is when they were last edited."""
    tested = [_difference(claim, table) for claim in claims]
    adjusted = iter(paired.holm([each.interval.p for each in tested if each]))
    found = []
    for claim, each in zip(claims, tested, strict=True):
        if each is None:
            found.append(Verdict(claim, "not run", None, []))
            continue
        judged = replace(each, adjusted=next(adjusted))
        found.append(Verdict(claim, _result(claim, judged, table), judged, _flags(claim, table, changed)))
    return found


def lines(judged: Sequence[Verdict], table: Comparison) -> list[str]:
    """Return a line for each verdict: difference, interval, n, p, smallest detectable difference, and flags."""
    return ["; ".join([_line(verdict, table), *verdict.flags]) for verdict in judged]


def _line(verdict: Verdict, table: Comparison) -> str:
    line = f"{verdict.claim}: {verdict.result}"
    if verdict.difference is None:
        return line
    d, times = verdict.difference, scale(table.cells[verdict.claim.better, verdict.claim.on].metric)
    line += f", {d.interval.estimate * times:+.2f}, 95 % {bounds(d.interval, times)}, n = {len(d.seeds)} seeds"
    line += f", p {d.adjusted:.3g}"
    return line + (f", detectable {d.detectable * times:.2f}" if math.isfinite(d.detectable) else "")


def _difference(claim: Claim, table: Comparison) -> Difference | None:
    for name, choices in ((claim.better, table.rows), (claim.than, table.rows), (claim.on, table.cols)):
        if name not in choices:
            raise ConfigError(f"a claim must be on the table's arms and columns, got {name}; {nearest(name, choices)}")
    cells = [table.cells.get((row, claim.on)) for row in (claim.better, claim.than)]
    return None if cells[0] is None or cells[1] is None else difference(cells[0], cells[1])


def _result(claim: Claim, measured: Difference, table: Comparison) -> str:
    if not measured.adjusted < claim.alpha:
        return "undecided"
    sign = 1 if table.cells[claim.better, claim.on].metric.higher_is_better else -1
    return "supported" if sign * measured.interval.estimate > 0 else "contradicted"


def _flags(claim: Claim, table: Comparison, changed: datetime) -> list[str]:
    """Return whether the claim's file was changed after its runs had started, and whether other seeds decided it."""
    runs = [run for row in (claim.better, claim.than) for run in table.cells[row, claim.on].runs]
    early = sorted({run.record.seed for run in runs if _started(run) < changed})
    flags = [f"its file was changed after seeds {_listed(early)} had started"] if early else []
    if claim.seeds is not None:
        have = {run.record.seed for run in runs}
        added, missing = sorted(have - set(claim.seeds)), sorted(set(claim.seeds) - have)
        flags += [f"seeds {_listed(added)} were added to those that were to decide"] if added else []
        flags += [f"seeds {_listed(missing)} are missing"] if missing else []
    return flags


def _started(run: Run) -> datetime:
    first = run.record.attempts[0]["started"] if run.record.attempts else run.record.started
    return datetime.fromisoformat(first) if first else datetime.min.replace(tzinfo=UTC)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
