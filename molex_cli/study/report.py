"""What came of a study, for people: its answers first, then what they rest on."""

import math
from collections.abc import Iterator
from pathlib import Path

from scipy import special

from molex_cli.compare import formats
from molex_cli.compare.collapse import why
from molex_cli.compare.confounds import confounds
from molex_cli.compare.effects import Effect, ends
from molex_cli.compare.layout import Report, Section
from molex_cli.compare.remarks import Heading, Note
from molex_cli.compare.table import Comparison, metric_name
from molex_cli.config.parsing import key_of
from molex_cli.config.sweeps import as_text
from molex_cli.records import unwritable, write_text
from molex_cli.statistics.intervals import Interval
from molex_cli.study.arms import Arm
from molex_cli.study.conduct import COLUMN_KEYS, Conducted
from molex_cli.study.history import History
from molex_cli.study.race import Contest, State
from molex_cli.study.tuning import remarks, settings_of

FILES = {"html": "study.html", "md": "study.md", "latex": "study.tex", "json": "study.json"}


def write(report: Report, folder: Path) -> list[Path]:
    """Write a report in every format; return the files."""
    try:
        for kind, file in FILES.items():
            write_text(folder / file, formats.text(kind, report))
    except OSError as error:
        raise unwritable(str(folder), error) from None
    return [folder / file for file in FILES.values()]


def reported(name: str, found: Conducted, history: History, folder: Path | None = None) -> Report:
    """Return the report of a study that has come to its end."""
    table = _table(found)
    runs = [run for arm in found.runs.values() for run in arm]
    notes = [*(Note(Heading.history, line) for line in history.told(runs)), *confounds(table)]
    sections = [_looks(found), *_tuning(found), _budgets(found), _runs(found)]
    effects = [_effect(found, contest, table) for contest in found.contests]
    return Report(table, notes, folder, f"Study {name}", [_answer(found, c) for c in found.contests], effects, sections)


def _table(found: Conducted) -> Comparison:
    """Return the arms as a table; what differs between them was decided by the race, not by the table."""
    column = found.column
    cells = {(arm.name, column): found.cell(arm.name) for arm in found.arms}
    studied = sorted({key_of(text) for arm in found.arms for text in arm.overrides})
    tuned = list(found.study.tuning.grid) if found.study.tuning else []
    return Comparison(
        row_keys=[],
        col_keys=list(COLUMN_KEYS),
        rows=[arm.name for arm in found.arms],
        cols=[column],
        cells=cells,
        which=found.study.which,
        against=None,
        studied=studied,
        tuned=tuned,
        is_judged=False,
    )


def _answer(found: Conducted, contest: Contest) -> str:
    """Return a verdict as a sentence."""
    measured, claim = found.differences[contest.claim], contest.claim
    cell = found.cell(claim.one)
    times, unit = cell.metric.scale, "points" if cell.metric.scale == 100 else cell.metric.name
    interval = over_looks(found, contest)
    size = f"{measured.interval.estimate * times:+.2f} {unit}"
    span = f"95 % over all looks {ends(interval.low * times, interval.high * times)}"
    basis = f"{span}, {contest.seeds} seeds, adjusted p {contest.adjusted:.3g}"
    caveat = f"; {measured.caveat}" if measured.caveat and contest.state is State.decided else ""
    return f"{claim}: {verdict(found, contest)}. {claim.one} minus {claim.other} is {size} ({basis}){caveat}."


def verdict(found: Conducted, contest: Contest) -> str:
    """Return what the runs say of a claim."""
    measured, claim = found.differences[contest.claim], contest.claim
    if contest.state is State.decided:
        sign = 1 if found.cell(claim.one).metric.higher_is_better else -1
        is_better = sign * measured.interval.estimate > 0
        if claim.is_directed:
            return "supported" if is_better else "contradicted"
        return f"different, {claim.one if is_better else claim.other} is better"
    if measured.undecided:
        return measured.undecided
    if contest.state is State.futile:
        return f"undecided: given up after {contest.seeds} of {found.race.most} seeds, more would hardly decide it"
    return f"undecided: all {found.race.most} seeds are used"


def over_looks(found: Conducted, contest: Contest) -> Interval:
    """Return a difference with the interval that holds over all looks at once, for one claim by itself."""
    interval = found.differences[contest.claim].interval
    if not math.isfinite(interval.error):
        return interval
    level = found.race.critical(contest.seeds, 0.05)
    half = -float(special.stdtrit(interval.degrees_of_freedom, level / 2)) * interval.error
    return Interval(interval.estimate, interval.estimate - half, interval.estimate + half)


def _effect(found: Conducted, contest: Contest, table: Comparison) -> Effect:
    measured, claim = found.differences[contest.claim], contest.claim
    interval, metric = over_looks(found, contest), found.cell(claim.one).metric
    return Effect(
        column=found.column,
        one=claim.one,
        other=claim.other,
        estimate=interval.estimate * metric.scale,
        low=interval.low * metric.scale,
        high=interval.high * metric.scale,
        p=contest.adjusted,
        seeds=contest.seeds,
        verdict=verdict(found, contest),
        detail=f"over {measured.over}, interval and p over all looks",
        metric=metric_name(table, found.column),
        higher_is_better=metric.higher_is_better,
    )


def _looks(found: Conducted) -> Section:
    """Return the p of every look, as the race saw it."""
    threshold = {seeds: f"{found.race.critical(seeds, found.study.alpha):.3g}" for seeds in _all_looks(found)}
    rows = [
        [str(contest.claim), str(seeds), "none" if math.isnan(p) else f"{p:.3g}", threshold[seeds]]
        for contest in found.contests
        for seeds, (p, _) in contest.looks.items()
    ]
    note = (
        f"{found.race.first} seeds at first, {found.race.most} at most, α = {found.study.alpha} over all looks and "
        "claims (Holm); the threshold is that of a single claim"
    )
    return Section("Looks", ("claim", "seeds", "p", "threshold"), rows, note)


def _all_looks(found: Conducted) -> set[int]:
    return {seeds for contest in found.contests for seeds in contest.looks}


def _tuning(found: Conducted) -> Iterator[Section]:
    if not found.tuned:
        return
    head = ("arm", *(", ".join(map(as_text, values)) for values in next(iter(found.tuned.values())).scores))
    rows = [
        [name, *(_score(score * found.cell(name).metric.scale) for score in each.scores.values())]
        for name, each in found.tuned.items()
    ]
    each = next(iter(found.tuned.values()))
    note = f"mean score on the selection rows over the seeds {', '.join(map(str, each.seeds))}, which report nothing"
    yield Section(f"Trials of {', '.join(each.grid)}", head, rows, note)
    rows = [[name, ", ".join(settings_of(each)), "; ".join(remarks(each))] for name, each in found.tuned.items()]
    yield Section("Chosen", ("arm", "settings", "trials"), rows)


def _score(score: float) -> str:
    return f"{score:.2f}" if math.isfinite(score) else "diverged"


def _budgets(found: Conducted) -> Section:
    rows = []
    for arm in found.arms:
        record = found.runs[arm.name][0].record
        counts = [f"{record.parameters.get(part, 0):,}" for part in ("added", "trainable")]
        rows.append([arm.name, " ".join(arm.overrides), *counts, _residue(arm)])
    match = found.study.match
    nearest = "; what cannot be met has the nearest possible one"
    note = (
        f"matched to {match.to} by {match.by}, solved for {match.solve}{nearest}"
        if match
        else "budgets were not matched"
    )
    return Section("Settings and budgets", ("arm", "settings", "added", "trainable", "off the budget"), rows, note)


def _residue(arm: Arm) -> str:
    return arm.solution.off if arm.solution else "–"


def _runs(found: Conducted) -> Section:
    rows = []
    for arm in found.arms:
        cell = found.cell(arm.name)
        for run in cell.runs:
            seed = run.record.seed
            reasons = "; ".join(f"{kind}: {reason}" for kind, reason in why(run, cell.which, cell.metric))
            score = f"{cell.by_seed[seed] * cell.metric.scale:.2f}"
            rows.append([arm.name, str(seed), score, reasons, run.folder.name])
    return Section("Runs", ("arm", "seed", "score", "", "folder"), rows, is_on_page=False)
