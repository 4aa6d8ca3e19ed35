"""A task as data: where its rows come from, which columns are text, how answers are scored."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from molex_cli.errors import nearest
from molex_cli.metrics import METRICS


class Kind(Enum):
    """What the model is asked to do."""

    classify = "classify"
    """Give a row one of a few labels."""
    regress = "regress"
    """Give a row a number."""


class Quoting(Enum):
    """How delimited text quotes its fields; `auto` unquotes where the whole file is well quoted."""

    auto = "auto"
    csv = "csv"
    none = "none"


@dataclass(kw_only=True)
class Hub:
    """A data set on the Hugging Face hub."""

    path: str | None = None
    subset: str | None = None
    train: str = "train"
    validation: str = "validation"


@dataclass(kw_only=True)
class Files:
    """One file for each split: csv, tsv, jsonl or parquet, told apart by the ending."""

    train: str | None = None
    validation: str | None = None
    header: list[str] | None = None
    """Column names of files that have no header line."""
    quoting: Quoting = Quoting.auto
    """Quoting of csv and tsv files."""
    rename: dict[str, str] = field(default_factory=dict)
    """The task's name of a column, and the file's own."""


@dataclass(kw_only=True)
class Task:
    """One task; the first metric chooses the best checkpoint."""

    name: str
    kind: Kind = Kind.classify
    builtin: str | None = None
    """Generator of the rows: nli."""
    hub: Hub = field(default_factory=Hub)
    official: Files = field(default_factory=Files)
    """The official files, relative to data_dir."""
    files: Files = field(default_factory=Files)
    """Your own files, relative to the working directory."""
    columns: list[str] = field(default_factory=list)
    """One or two columns of text."""
    label: str = "label"
    """The column of the label."""
    labels: list[str] | None = None
    """The labels in the order of their class index; null takes them from the training rows."""
    metrics: list[str] = field(default_factory=lambda: ["accuracy"])

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if not (self.builtin or self.hub.path or self.official.train or self.files.train):
            yield ".files.train must name a file of training rows, got null"
        if self.files.train and not self.files.validation:
            yield ".files.validation must name a file of validation rows, got null"
        if not 1 <= len(self.columns) <= 2:
            yield f".columns must name one or two columns of text, got {list(self.columns)}"
        if len(set(self.columns)) < len(self.columns) or self.label in self.columns:
            yield f".columns must be different and leave out the label, got {list(self.columns)} and {self.label}"
        if not self.metrics:
            yield ".metrics must name at least one metric, got []"
        fitting = [name for name, metric in METRICS.items() if metric.of_numbers == (self.kind is Kind.regress)]
        for metric in self.metrics:
            if metric not in fitting:
                yield f".metrics must be metrics of this task, got {metric}; {nearest(metric, fitting)}"
        if self.kind is Kind.regress and self.labels is not None:
            yield f".labels must be null where a number is predicted, got {list(self.labels)}"
        elif self.labels is not None and len(set(self.labels)) < max(2, len(self.labels)):
            yield f".labels must be two or more different labels, got {list(self.labels)}"
