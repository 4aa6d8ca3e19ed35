"""A task as data: where its rows come from, which columns are text, how a model answers and is scored."""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from molex_cli.config import task_metrics
from molex_cli.errors import nearest
from molex_cli.metrics.base import METRICS

SHARED_SPLITS = ("train", "validation", "test")
"""What `files.split` divides a file into, in the order of its shares."""


class Kind(Enum):
    """What a model does with a row."""

    classification = "classification"
    """Give a row one of a few labels."""
    regression = "regression"
    """Give a row a number."""
    multiple_choice = "multiple_choice"
    """Pick one of a row's choices."""
    generation = "generation"
    """Write a text."""


class AnswerMode(Enum):
    """How a model answers a choice; `auto` is `likelihood` for a decoder and `head` for an encoder."""

    auto = "auto"
    head = "head"
    """One output for each pair of question and choice, the highest wins."""
    likelihood = "likelihood"
    """The choice that the language model finds most likely after the prompt."""
    generate = "generate"
    """The answer written by greedy generation, which must hold exactly one answer."""


class Scored(Enum):
    """Which tokens a language model is trained on."""

    answer = "answer"
    all = "all"


class Quoting(Enum):
    """How delimited text quotes its fields; `auto` unquotes where the whole file is well quoted."""

    auto = "auto"
    csv = "csv"
    none = "none"


@dataclass(kw_only=True)
class Hub:
    """A data set on the Hugging Face hub."""

    path: str | None = None
    """Id of the data set."""
    subset: str | None = None
    """One of its configurations."""
    revision: str | None = None
    """Branch, tag or commit; null takes main. The record has the commit."""
    train: str = "train"
    """Its split of training rows."""
    validation: str = "validation"
    """Its split of validation rows."""
    test: str | None = None
    """Its split of test rows."""
    empty: str | None = None
    """Keep only rows without a value in this column."""


@dataclass(kw_only=True)
class Files:
    """One file for each split: csv, tsv, jsonl or parquet, known by their ending."""

    train: str | None = None
    """File of the training rows."""
    validation: str | None = None
    """File of the validation rows."""
    test: str | None = None
    """File of the test rows."""
    split: list[float] | None = None
    """Shares of `train` that are training, validation and, if there is a third, test rows; each label has the same."""
    split_seed: int = 0
    """Seed of `split`: not that of the run, so all seeds and arms share the rows."""
    header: list[str] | None = None
    """Column names of files that have no header line."""
    quoting: Quoting = Quoting.auto
    """Quoting of csv and tsv files."""
    rename: dict[str, str] = field(default_factory=dict)
    """The task's name of a column, and the file's own; `a.b` reaches into nested JSON."""


@dataclass(kw_only=True)
class Language:
    """The prompts of a language model and its answers; {column} and {options} are replaced in templates."""

    prompt: str = ""
    """What `likelihood` and kind=generation continue."""
    instruction: str = ""
    """The prompt of `generate`, inside a frame that marks instruction and response."""
    answer: str = "{answer}"
    """What `generate` is trained to answer; {answer} is the letter or label of the right choice."""
    pattern: str | None = None
    """What must be found in a generated answer exactly once; null takes `answer`."""
    train_on: Scored = Scored.answer
    max_new_tokens: int = 128
    """Tokens of a generated answer at most."""
    beams: int = 1
    """Beams of the search for an answer; 1 is greedy."""
    length_penalty: float = 1.0
    """Power of the length by which a beam's score is divided: above 0 favours long answers."""
    no_repeat_ngram: int = 0
    """Forbid that so many tokens in a row occur twice; 0 forbids nothing."""


@dataclass(kw_only=True)
class Task:
    """One task; the first metric chooses the best checkpoint."""

    name: str
    """Name in tables and folders."""
    kind: Kind = Kind.classification
    builtin: str | None = None
    """Generator of the rows: nli."""
    hub: Hub = field(default_factory=Hub)
    official: Files = field(default_factory=Files)
    """The official files, relative to data_dir."""
    files: Files = field(default_factory=Files)
    """Your own files, relative to the working directory."""
    columns: list[str] = field(default_factory=list)
    """Columns of text; one or two for kind=classification and regression."""
    choices: str | None = None
    """The column of a row's choices, for kind=multiple_choice; null takes the labels for every row."""
    label: str = "label"
    """The column of the label, of the right choice, or of the text to be written."""
    labels: list[str] | None = None
    """The labels in the order of their class index; null takes them from the training rows."""
    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    """Scores; the first one chooses the best checkpoint. evaluate/NAME is one of the library `evaluate`."""
    metric_files: list[str] = field(default_factory=list)
    """Python files with metrics of your own, relative to the working directory."""
    metric_arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of all metrics that are none of molex's own, {average: macro}; under a metric's name of it alone."""
    higher_is_better: list[str] = field(default_factory=list)
    """Metrics of `evaluate` of which a higher score is better: the library does not say it."""
    lower_is_better: list[str] = field(default_factory=list)
    """Metrics of `evaluate` of which a lower score is better."""
    positive: str | None = None
    """The label whose class f1 scores; null takes the second one."""
    where: dict[str, str] = field(default_factory=dict)
    """Keep only rows with these values in these columns."""
    answer_mode: AnswerMode = AnswerMode.auto
    """How a model answers a choice."""
    objective: str | None = None
    """An objective by its name (objectives/); null takes the standard one of the kind and answer mode."""
    language: Language = field(default_factory=Language)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if not (self.builtin or self.hub.path or self.official.train or self.files.train):
            yield ".files.train must name a file of training rows, got null"
        if self.files.train and not self.files.validation and self.files.split is None:
            yield (
                ".files.validation must name a file of validation rows, got null; "
                "task.files.split=[0.8,0.1,0.1] takes some of the training file"
            )
        yield from self._split_problems()
        yield from self._column_problems()
        yield from task_metrics.problems(self)
        first = METRICS.get(self.metrics[0]) if self.metrics else None
        if first is not None and first.not_computed:
            yield f".metrics must begin with a score that is computed, got {self.metrics[0]}"
        if self.positive is not None and not self._scores_one_class():
            yield f".positive must be null where no metric is of one class, got {self.positive}; add f1 to task.metrics"
        if self.labels is not None and (self.kind in (Kind.regression, Kind.generation) or self.choices):
            yield f".labels must be null where no label of a fixed list is predicted, got {list(self.labels)}"
        elif self.labels is not None and len(set(self.labels)) < max(2, len(self.labels)):
            yield f".labels must be two or more different labels, got {list(self.labels)}"
        yield from self._answer_mode_problems()
        yield from self._language_problems()

    def file_problems(self) -> Iterator[str]:
        """Yield what is wrong with the files of metrics, which are run for it."""
        yield from task_metrics.file_problems(self)

    def _split_problems(self) -> Iterator[str]:
        """Yield what is wrong with shares of one file."""
        for name in ("split", "split_seed"):
            if value := getattr(self.official, name):
                yield f".official.{name} must be left out, got {value}; task.files.{name} is for a file of your own"
        shares, seed = self.files.split, self.files.split_seed
        if shares is None:
            if seed:
                yield f".files.split_seed must go with task.files.split, got {seed} alone; set task.files.split"
            return
        if not 2 <= len(shares) <= 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            rule = "two or three shares above 0 that add up to 1, for training, validation and test"
            yield f".files.split must be {rule}, got {list(shares)}; for example [0.8,0.1,0.1]"
        if not self.files.train:
            yield f".files.split must go with a file of your own, got {list(shares)} alone; set task.files.train"
        if both := [name for name in SHARED_SPLITS[1:] if getattr(self.files, name)]:
            yield f".files.{both[0]} must be null where task.files.split makes one, got both; leave one of them out"

    def label_problems(self, labels: Sequence[str]) -> Iterator[str]:
        """Yield what does not fit the labels; none are given where they come from rows that were not read yet."""
        if not labels or not self._scores_one_class():
            return
        if len(labels) > 2:
            name = next(name for name in self.metrics if METRICS[name].of_one_class)
            yield f".metrics must fit {len(labels)} labels, got {name}, which scores one class of two; use f1_macro"
        elif self.positive is not None and self.positive not in labels:
            hint = nearest(self.positive, labels)
            yield f".positive must be one of the labels {', '.join(labels)}, got {self.positive}; {hint}"

    def positive_class(self, labels: Sequence[str]) -> int:
        """Return the index of the positive class: GLUE's is the second, as in MRPC and QQP."""
        return 1 if self.positive is None else list(labels).index(self.positive)

    def positive_label(self, labels: Sequence[str]) -> str | None:
        """Return the positive class by its name; None where no metric scores one."""
        return labels[self.positive_class(labels)] if self._scores_one_class() else None

    def _scores_one_class(self) -> bool:
        return any(name in METRICS and METRICS[name].of_one_class for name in self.metrics)

    def _column_problems(self) -> Iterator[str]:
        few = self.kind in (Kind.classification, Kind.regression)
        if few and not 1 <= len(self.columns) <= 2:
            where = f"; the first line of {self.files.train} says which there are" if self.files.train else ""
            yield f".columns must name one or two columns of text, got {list(self.columns)}{where}"
        elif not self.columns:
            yield ".columns must name the columns of text, got []"
        if len(set(self.columns)) < len(self.columns) or self.label in self.columns:
            yield f".columns must be different and leave out the label, got {list(self.columns)} and {self.label}"
        if self.kind is Kind.multiple_choice and not self.choices and self.labels is None:
            yield ".choices must name the column of the choices, or task.labels be the choices of every row, got null"

    def _answer_mode_problems(self) -> Iterator[str]:
        possible = {Kind.multiple_choice: list(AnswerMode), Kind.generation: [AnswerMode.auto, AnswerMode.generate]}
        allowed = possible.get(self.kind, [AnswerMode.auto, AnswerMode.head])
        if self.answer_mode not in allowed:
            named = ", ".join(each.name for each in allowed)
            yield f".answer_mode must be {named} for kind={self.kind.name}, got {self.answer_mode.name}"

    def _template_problems(self, name: str, known: set[str]) -> Iterator[str]:
        """Yield what is wrong with one template."""
        template = getattr(self.language, name)
        try:
            used = {column for _, column, _, _ in string.Formatter().parse(template) if column is not None}
            if used <= known:
                template.format(**dict.fromkeys(known, ""))
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            yield f".language.{name} must be a template with {{column}} in it, got {template!r} ({error})"
            return
        for column in sorted(used - known):
            yield f".language.{name} must use columns of the task, got {{{column}}}; {nearest(column, known)}"

    def _language_problems(self) -> Iterator[str]:
        """Yield what is wrong with the templates of kinds that a language model answers."""
        if self.kind not in (Kind.multiple_choice, Kind.generation):
            return
        if "options" in self.columns:
            yield ".columns must leave the name options to the list of choices, got a column of that name"
        known = {*self.columns, "options"}
        for name, known_here in (("prompt", known), ("instruction", known), ("answer", {"answer"})):
            yield from self._template_problems(name, known_here)
        if self.language.pattern is not None and "{answer}" not in self.language.pattern:
            yield f".language.pattern must have {{answer}} in it, got {self.language.pattern!r}"
        if self.answer_mode is AnswerMode.generate and not self.language.instruction:
            yield ".language.instruction must say what answer_mode=generate asks for, got nothing"
        if self.answer_mode is AnswerMode.generate and "{answer}" not in self.language.answer:
            yield f".language.answer must have {{answer}} in it, got {self.language.answer!r}"
        if self.kind is Kind.generation and not self.language.prompt:
            yield ".language.prompt must say what is to be continued, got nothing"
        for name in ("max_new_tokens", "beams"):
            if getattr(self.language, name) < 1:
                yield f".language.{name} must be at least 1, got {getattr(self.language, name)}"
