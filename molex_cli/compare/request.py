"""What a comparison is asked for, and its report: the command's and Python's; no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from molex_cli.compare import evaluated, hypotheses, registration
from molex_cli.compare.choices import FAMILIES, SHOWN, SPLITS
from molex_cli.compare.confounds import confounds
from molex_cli.compare.layout import Report
from molex_cli.compare.loading import WHICH, LoadedRuns, Run, load
from molex_cli.compare.remarks import Heading, Note
from molex_cli.compare.table import Comparison, compare
from molex_cli.compare.tuning import Tuning
from molex_cli.compare.verdicts import verdicts
from molex_cli.errors import ConfigError

MOST_NAMES = 6


@dataclass(frozen=True, kw_only=True)
class Request:
    """How runs are compared; each field is what `molex compare --help` says of the flag of its name."""

    rows: Sequence[str] = ("method",)
    cols: Sequence[str] = ("task", "model")
    which: str = "last"
    evaluation: str | None = None
    metric: str = ""
    against: str | None = None
    adjust: str = "holm"
    show: Sequence[str] = ()
    detect: float | None = None
    tune: Sequence[str] = ()
    tuning_seeds: Sequence[int] = ()
    claims: Path | None = None

    def require_possible(self) -> None:
        """Raise ConfigError for what means nothing, or nothing beside the rest."""
        if problems := list(self._problems()):
            raise ConfigError(problems)

    def _problems(self) -> Iterator[str]:
        given = [("which", self.which, WHICH), ("adjust", self.adjust, FAMILIES)]
        given += [("show", value, SHOWN) for value in self.show]
        for name, value, known in given:
            if value not in known:
                yield f"--{name} must be one of {', '.join(known)}, got {value}"
        if bool(self.tune) != bool(self.tuning_seeds):
            yield f"--tune must go with --tuning-seeds, got {'--tune' if self.tune else '--tuning-seeds'} alone"
        if self.detect is not None and not self.detect > 0:
            yield f"--detect must be a difference above 0, got {self.detect}"
        if self.tune and self.evaluation not in (None, *SPLITS):
            yield f"--tune must go with a split of the runs' own task, got --evaluation {self.evaluation}"
        if self.metric and self.evaluation in (None, *SPLITS):
            at = f"--evaluation {self.evaluation}" if self.evaluation else "no --evaluation"
            rule = "--metric must go with --evaluation and a task of lm_eval or a text"
            yield f"{rule}, got {at}; a split's is task.metrics"

    def loaded(self, paths: Sequence[Path]) -> LoadedRuns:
        """Return the runs under some paths that are compared, with a line on each that is not."""
        found = load(paths, "" if self.evaluation else self.which)
        if self.evaluation:
            found = evaluated.on_split(found, self.which, self.evaluation, self.metric)
        return found

    def report(self, found: LoadedRuns, paths: Sequence[Path]) -> Report:
        """Return the report on the runs of some paths; raise ConfigError where none is left."""
        if not found.runs:
            raise ConfigError(f"paths must hold finished runs, got none in {', '.join(map(str, paths))}")
        tuning = Tuning(self.tune, self.tuning_seeds, found.diverged)
        adjust = FAMILIES[self.adjust]
        table = compare(found.runs, self.rows, self.cols, self.which, self.against, adjust, self.detect, tuning)
        table.show = tuple(self.show)
        notes = [Note(Heading.claims, line) for line in _judged(self.claims, table)] + confounds(table)
        notes += [Note(Heading.left_out, line) for line in _diverged(found.diverged, tuning)]
        # A terminal has had them on standard error; who is given the file has not.
        notes += [Note(Heading.left_out, line, is_detail=True) for line in _shortened(found.left_out)]
        return Report(table, notes, answers=verdicts(table), runs=found.runs, diverged=found.diverged)


def keys(text: str) -> list[str]:
    """Return the names in a text that separates them by commas."""
    return [key for key in text.split(",") if key]


def _diverged(runs: Sequence[Run], tuning: Tuning) -> Iterator[str]:
    """Yield a line on runs that diverged, which have no score and would flatter their arm unseen; trials count."""
    if names := [run.folder.name for run in runs if run not in tuning.failures]:
        shown = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
        yield f"training diverged in {shown}; without these runs their arms look better than they are"


def _shortened(left_out: Sequence[str]) -> list[str]:
    """Return the first lines of many, and how many there are besides."""
    more = len(left_out) - MOST_NAMES
    return [*left_out[:MOST_NAMES], *([f"{more} more run{'' if more == 1 else 's'} or records"] if more > 0 else [])]


def _judged(path: Path | None, table: Comparison) -> list[str]:
    """Return what is said of the hypotheses of a file."""
    if path is None:
        return []
    claims = hypotheses.read_claims(path)
    registered = registration.registered(path, claims)
    judged = hypotheses.lines(hypotheses.verdicts(claims, table, [each.when for each in registered.written]), table)
    return [*judged, registered.told()]
