"""Hypotheses, the verdict of the runs on each, and whether its file is older than they are."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from molex_cli.compare.differences import Difference
from molex_cli.compare.effects import bounds, detection
from molex_cli.compare.judging import ALPHA, judged_difference, pooled_variance
from molex_cli.compare.table import Comparison
from molex_cli.errors import ConfigError, nearest
from molex_cli.runtime.paths import require_file
from molex_cli.statistics.multiplicity import holm

SENTENCE = re.compile(r"^\s*(?P<better>.+?)\s+>\s+(?P<than>.+?)\s+on\s+(?P<on>.+?)\s*$")
KEYS = ("claim", "seeds", "alpha")


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
        return parse_claims(require_file(path).read_bytes(), path)
    except OSError as error:
        raise ConfigError(f"--claims must be a YAML file, got {path} ({' '.join(str(error).split())})") from None


def parse_claims(content: bytes, path: Path) -> list[Claim]:
    """Return the claims of a version of a file."""
    try:
        entries = yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # an impossible date is a ValueError
        raise ConfigError(f"--claims must be a YAML file, got {path} ({' '.join(str(error).split())})") from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path} must be a list of claims, such as: - mola_inverted > lora on glue/rte")
    return [_claim(path, number, entry) for number, entry in enumerate(entries, start=1)]


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
    return Claim(found["better"], found["than"], found["on"], alpha, None if seeds is None else tuple(seeds))


def verdicts(claims: Sequence[Claim], table: Comparison, changed: Sequence[datetime]) -> list[Verdict]:
    """Return a verdict on each claim, adjusted for all of them (Holm); `changed` is when each was last edited."""
    tested = [_difference(claim, table) for claim in claims]
    adjusted = holm([each.interval.p if each else math.nan for each in tested])
    family = max(1, sum(not math.isnan(p) for p in adjusted))
    found = []
    for claim, each, p, when in zip(claims, tested, adjusted, changed, strict=True):
        if each is None:
            found.append(Verdict(claim, "not run", None, []))
            continue
        judged = replace(each, adjusted=p, level=claim.alpha / family)
        found.append(Verdict(claim, _result(claim, judged, table), judged, _flags(claim, judged, table, when)))
    return found


def lines(judged: Sequence[Verdict], table: Comparison) -> list[str]:
    """Return a line for each verdict: difference, interval, n, p, smallest detectable difference, and flags."""
    return ["; ".join([_line(verdict, table), *verdict.flags]) for verdict in judged]


def _line(verdict: Verdict, table: Comparison) -> str:
    line = f"{verdict.claim}: {verdict.result}"
    d = verdict.difference
    if d is None:
        return line
    if not d.seeds:
        return f"{line}, no seed in common"
    times = table.cells[verdict.claim.better, verdict.claim.on].metric.scale
    p = "no p of so few" if math.isnan(d.adjusted) else f"p {d.adjusted:.3g}"
    detectable = [f"detectable {d.detectable * times:.2f}"] if math.isfinite(d.detectable) else []
    line += f", {d.interval.estimate * times:+.2f}, 95 % {bounds(d.interval, times)}, n = {len(d.seeds)} seeds, {p}"
    return ", ".join([line, *detectable, *detection(table, d, times)])


def _difference(claim: Claim, table: Comparison) -> Difference | None:
    for name, choices in ((claim.better, table.rows), (claim.than, table.rows), (claim.on, table.cols)):
        if name not in choices:
            raise ConfigError(f"a claim must be on the table's arms and columns, got {name}; {nearest(name, choices)}")
    column = table.column(claim.on)
    if claim.better not in column or claim.than not in column:
        return None
    cells = list(column.values())
    return judged_difference(column[claim.better], column[claim.than], cells, pooled_variance(cells))


def _result(claim: Claim, measured: Difference, table: Comparison) -> str:
    if not measured.is_significant(claim.alpha):
        return measured.undecided or "undecided"
    sign = 1 if table.cells[claim.better, claim.on].metric.higher_is_better else -1
    verdict = "supported" if sign * measured.interval.estimate > 0 else "contradicted"
    return ", ".join(filter(None, [verdict, measured.caveat]))


def _flags(claim: Claim, measured: Difference, table: Comparison, changed: datetime) -> list[str]:
    """Return whether the claim was changed after its runs had started, and whether other seeds decided it."""
    runs = [run for row in (claim.better, claim.than) for run in table.cells[row, claim.on].runs]
    early = sorted({run.record.seed for run in runs if run.started < changed})
    flags = [f"it was written or changed after seeds {_listed(early)} had started"] if early else []
    if claim.seeds is not None:
        decided, planned = set(measured.seeds), set(claim.seeds)
        added, missing = sorted(decided - planned), sorted(planned - decided)
        flags += [f"seeds {_listed(added)} were added to those that were to decide"] if added else []
        flags += [f"seeds {_listed(missing)} are missing"] if missing else []
    return flags


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
