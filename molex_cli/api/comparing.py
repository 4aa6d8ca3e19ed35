"""Records and comparisons as tables of pandas, from Python."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.api import asked
from molex_cli.checkpoints.hub.opening import located
from molex_cli.compare import figure as figures
from molex_cli.compare import formats
from molex_cli.compare.layout import Report, facts
from molex_cli.compare.loading import WHICH, Run, runs_in
from molex_cli.compare.request import Request, keys
from molex_cli.compare.table import Comparison
from molex_cli.errors import ConfigError, RecordError
from molex_cli.records import flat
from molex_cli.runtime.paths import expanded

if TYPE_CHECKING:
    from pandas import DataFrame

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
"""A folder of runs, a run's folder or its record, hub:USER/NAME; or several."""


@dataclass(frozen=True, repr=False)
class ComparedRuns:
    """A comparison of arms: shown as the table of `molex compare`, and as tables of pandas."""

    report: Report
    left_out: Sequence[str]
    """A line for each run that is not compared."""

    @property
    def table(self) -> Comparison:
        """Return the table itself: its rows, columns, and in its cells the runs."""
        return self.report.table

    @cached_property
    def frame(self) -> "DataFrame":
        """Return a row for each arm (`row`) in each column (`col`), with the columns of `molex compare --format csv`.

        Among them `mean`, `sd` over seeds, `n` and costs such as `trainable`; `by_seed` has the scores.
        """
        from pandas import DataFrame

        known = zip(facts(self.table), self.table.cells.values(), strict=True)
        return DataFrame([{**numbers, "by_seed": cell.by_seed} for numbers, cell in known])

    @cached_property
    def differences(self) -> "DataFrame":
        """Return a row for each difference between arms, in the unit in which scores are shown.

        `estimate` is `one` less `other`, `low` and `high` are the ends of its 95 % interval, `p` is adjusted for its
        family, `verdict` says what may be concluded, `detail` what else is known.
        """
        from pandas import DataFrame

        return DataFrame([asdict(each) for each in self.report.differences()])

    @property
    def verdicts(self) -> Sequence[str]:
        """Return the sentences that the table begins with."""
        return self.report.answers

    def text(self, format: str = "table") -> str:
        """Return it in a format of `molex compare`: table, md, csv, json, latex, html."""
        return formats.text(format, self.report)

    def figure(self, file: str | PathLike[str], kind: str = "scores", width: float = figures.COLUMN) -> Path:
        """Draw scores, differences, curves or rates, some inches wide, into a PDF, SVG or PNG; return its path."""
        with asked():
            path = expanded(fspath(file))
            figures.write(self.report, path, width, kind)
            return path

    def __repr__(self) -> str:
        return self.text()

    def _repr_markdown_(self) -> str:
        return self.text("md")


@asked()
def compare_runs(  # noqa: PLR0913, each is a flag of molex compare, and most are left out
    paths: Paths,
    *,
    rows: str | Sequence[str] = "method",
    cols: str | Sequence[str] = "task,model",
    which: str = "last",
    evaluation: str | None = None,
    metric: str = "",
    against: str | None = None,
    adjust: str = "holm",
    show: str | Sequence[str] = (),
    detect: float | None = None,
    tune: str | Sequence[str] = (),
    tuning_seeds: Sequence[int] = (),
    claims: str | PathLike[str] | None = None,
) -> ComparedRuns:
    """Compare the finished runs of some paths: which arm is better, by how much, and whether that is more than noise.

    The names after `paths` are the flags of `molex compare`: `rows="method,method.rank"` are the settings that make an
    arm, `cols` those that make a column, `against="lora"` compares every arm with that one. docs/compare.md has the
    statistics.
    """
    if isinstance(tuning_seeds, str | int):
        raise ConfigError(f"tuning_seeds must be a list of seeds, got {tuning_seeds!r}; write [{tuning_seeds}]")
    request = Request(
        rows=_names(rows),
        cols=_names(cols),
        which=which,
        evaluation=evaluation,
        metric=metric,
        against=against,
        adjust=adjust,
        show=_names(show),
        detect=detect,
        tune=_names(tune),
        tuning_seeds=tuning_seeds,
        claims=expanded(fspath(claims)) if claims is not None else None,
    )
    request.require_possible()
    places = _listed(paths)
    found = request.loaded(places)
    return ComparedRuns(request.report(found, places), found.left_out)


@asked()
def read_records(paths: Paths) -> "DataFrame":
    """Return a row for each run of some paths, whatever became of it; a warning tells of a record that is damaged.

    Its columns are `folder`, `status`, `task`, `method`, `model`, `seed`, `variant`, `metric`, `degenerate`, `error`;
    the scores of the last and the best evaluation, as `last.accuracy`; counts of parameters, as `parameters.trainable`;
    what training took, as `training.seconds`; and every setting by its full key, as `method.rank`.
    """
    from pandas import DataFrame

    runs, problems = list[Run](), list[str]()
    for each in runs_in(_listed(paths)):
        runs.append(each) if isinstance(each, Run) else problems.append(each)
    if not runs:
        raise RecordError("; ".join(problems))
    for line in problems:
        warnings.warn(line, stacklevel=3)  # of whoever called, behind `asked`
    return DataFrame(list(map(_row, runs)))


def _row(run: Run) -> dict[str, Any]:
    """Return what a record says, by the names of columns."""
    record = run.record
    settings = flat(record.settings)
    named = {
        "folder": str(run.folder),
        "status": record.status,
        **{group: settings.get(f"{group}.name") for group in ("task", "method", "model")},
        "seed": record.seed,
        "variant": record.variant,
        "metric": record.scores.get("metric"),
        "degenerate": "; ".join(record.degenerate),
        "error": record.error["message"] if record.error else "",
    }
    scores = {which: found["scores"] for which in WHICH if (found := record.evaluated(which))}
    counted = {"parameters": record.parameters, "training": dict(record.training)}
    others = {**flat(scores), **flat(counted), **settings}
    return named | {key: value for key, value in others.items() if key not in named}


def _listed(paths: Paths) -> list[Path]:
    listed = [paths] if isinstance(paths, str | PathLike) else list(paths)
    if not listed:
        raise ConfigError("paths must name folders of runs, got an empty list")
    return [located(fspath(path)) for path in listed]


def _names(given: str | Sequence[str]) -> Sequence[str]:
    """Return names that are a list, or one text with commas."""
    return keys(given) if isinstance(given, str) else given
