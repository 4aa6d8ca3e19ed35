"""Allocations by several rules side by side: counts, scores, and how alike rules rank the layers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from molex_cli.analysis.allocating import scored
from molex_cli.analysis.evidence import BaseEvidence
from molex_cli.compare import figure, plots
from molex_cli.config.schema import Experiment
from molex_cli.errors import ConfigError, MolexError
from molex_cli.methods.allocation import Allocation, counts_by_rule, experts_per_layer
from molex_cli.methods.allocations.base import RULES, Needs
from molex_cli.metrics.regression import spearman
from molex_cli.records import unwritable
from molex_cli.records.partial import renamed_when_whole


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a rule or a shape gives each layer, or why it gives nothing."""

    counts: list[int] = field(default_factory=list)
    scores: list[float] | None = None
    """None of a shape."""
    rows: int = 0
    """Training rows that were read."""
    available: int = 0
    """Training rows that there are."""
    seconds: float = 0.0
    problem: str = ""


def outcomes(experiment: Experiment, allocation: Allocation, rules: Sequence[str]) -> dict[str, Outcome]:
    """Return what each rule or shape gives; what one has read the next need not read again."""
    shared, found = BaseEvidence(experiment, allocation), {}
    for name in rules:
        started = time.monotonic()
        try:
            outcome = _outcome(shared, name)
        except MolexError as error:
            outcome = Outcome(problem=" ".join(str(error).split("\n")))
        found[name] = replace(outcome, seconds=round(time.monotonic() - started, 2))
    return found


def _outcome(evidence: BaseEvidence, name: str) -> Outcome:
    if name not in RULES:
        shape = replace(evidence.allocation, rule=name)
        return Outcome(counts=list(experts_per_layer(shape, evidence.num_layers)))
    if RULES[name].needs is Needs.run and evidence.allocation.from_run is None:
        raise ConfigError(f"from_run must be the folder of a finished run for rule={name}, got none")
    found = scored(evidence, name)
    counts = list(counts_by_rule(replace(evidence.allocation, rule=name), found.scores))
    return Outcome(counts=counts, scores=found.scores, rows=found.rows, available=found.available)


def correlations(found: Mapping[str, Outcome]) -> dict[str, dict[str, float]]:
    """Return Spearman's correlation over the layers of each two rules' scores; a shape's are its counts."""
    values = {name: each.scores or each.counts for name, each in found.items() if each.counts}
    return {one: {other: spearman(values[one], values[other]) for other in values} for one in values}


def draw(found: Mapping[str, Outcome], title: str, path: Path) -> None:
    """Draw the counts against the layer, as PDF, SVG or PNG by the file's ending."""
    import matplotlib

    suffix, content = path.suffix.lower(), BytesIO()
    shown = [(name, each.counts) for name, each in found.items() if each.counts]
    lines = [
        plots.Line(name, range(len(counts)), counts, colour=i, style=i // len(plots.COLOURS))
        for i, (name, counts) in enumerate(shown)
    ]
    with matplotlib.rc_context(figure.SETTINGS):
        picture = plots.line_chart(title, lines, x="layer", y="experts")
        picture.savefig(content, format=suffix[1:], dpi=figure.DOTS, metadata=figure.METADATA[suffix])
    try:
        with renamed_when_whole(path) as temporary:
            temporary.write_bytes(content.getvalue())
    except OSError as error:
        raise unwritable(str(path), error, "--figure must be a file") from None
