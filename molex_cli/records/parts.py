"""The parts of a record and of the other files that a run leaves, as they stand in JSON; no torch.

These are plain dictionaries with declared types: a record in memory is what its file says. All keys may be missing,
or there may be others, unless a part says otherwise: files of before and of plug-ins open.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

# Numbers that can be squared and added up; no run has larger ones.
Number = Annotated[float, Meta(ge=-1e100, le=1e100)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
LayerNumber = Annotated[str, Meta(pattern="^(0|[1-9][0-9]{0,8})$")]
Base64 = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]

Status = Literal["running", "finished", "failed", "interrupted", "imported"]

FAILED = " failed: "
"""In a reason of a record that is degenerate: between the name of a metric and why it could not be computed."""
SELECTION = "selection"
"""The split of training rows that chooses the best evaluation."""


class Correctness(TypedDict):
    """Which predictions are right, a bit for each, with a hash of their ids."""

    ids: str
    count: Count
    right: Base64


class Score(TypedDict):
    """One evaluation; a score that is undefined is null."""

    scores: Mapping[str, Number | None]
    step: NotRequired[Count]
    epoch: NotRequired[Number | None]
    loss: NotRequired[Number | None]
    selection: NotRequired[Mapping[str, Number | None]]
    """Scores on the training rows that choose the best, where some are set apart."""
    correctness: NotRequired[Correctness]


class Scores(TypedDict, total=False):
    """The evaluations of a run; those of a run with stages are means over them."""

    metric: str
    first: Score
    """Of the untrained model."""
    last: Score
    best: Score
    selection: str
    """The rule of `best`."""
    evaluations: Count
    """Among which the best was chosen."""
    constant: Mapping[str, Number | None]
    """The best that one answer to every row reaches."""
    stages: list[str]
    matrix: Sequence[Sequence[Number | None]]


class SplitData(TypedDict, total=False):
    """The rows of a split."""

    source: str
    rows: Count
    rows_used: Count
    tokens: Count
    fingerprint: str
    commit: str
    """That of the hub which the rows are of."""
    division: str
    """How one file was divided into this split and others."""
    labels: dict[str, Count] | list[str]
    """Rows of each label, where there is a list of them; once only the list."""
    rows_too_long: Count
    prompts_cut: Count


class Base(TypedDict, total=False):
    """The base model's files; empty for random weights."""

    fingerprint: str
    """A hash of those that it is loaded from; of the hub's where the hub told theirs."""
    commit: str
    """That of the hub which they are of."""


class MetricRecord(TypedDict):
    """A metric that is none of molex's own: what a comparison must know of it."""

    source: str
    digest: str
    higher_is_better: bool
    low: Number | None
    """Null where it has no end, here and below."""
    high: Number | None
    by_example: Literal["no", "right_or_wrong", "mean", "jackknife"]
    when_undefined: Number | None


class Evaluation(TypedDict, total=False):
    """How the scores were computed."""

    labels: list[str] | None
    """In the order of their class index."""
    positive: str | None
    """The label that f1 scores."""
    answer_mode: str
    implementations: dict[str, str]
    not_computed: dict[str, str]
    metrics: dict[str, MetricRecord]
    """Those that are none of molex's own."""
    batch_size: Count
    order: str
    depends_on_batch: str | None
    protocol: dict[str, str | Number | None]
    """Of scores that are of no split: versions, few-shot examples, windows and all else that decides them."""


class Training(TypedDict, total=False):
    """Sums, means and rates of the steps."""

    steps: Count
    effective_batch: Count
    processes: Count
    learning_rate: Number
    tokens: Count
    seconds: Number
    step_seconds: Number
    tokens_per_second: Number
    first_loss: Number | None
    last_loss: Number | None
    mean_loss: Number | None
    notes: list[str]
    """On fewer steps than were asked for."""


class FrozenLayers(TypedDict, total=False):
    """The layers below all that trains, where what they give was read instead of computed."""

    layers: Count
    """That were left out."""
    bytes: Count
    rows_built: Count
    rows_read: Count
    """A row counts each time."""
    reason: str
    """Why none was left out."""


class ExpertUse(TypedDict, total=False):
    """How the experts of a layer, or of one of its linears, were used."""

    usage: list[Number | None]
    gate: list[Number | None]
    entropy: Number | None
    effective: Number | None
    top1: Number | None
    dead: Number | None
    logit: Number | None
    margin: Number | None
    utilisation: Number | None


class LayerUse(ExpertUse, total=False):
    """The same for a layer, with those of its linears."""

    modules: dict[str, ExpertUse]


class Git(TypedDict, total=False):
    """The code that ran."""

    commit: str
    dirty: bool


class Environment(TypedDict, total=False):
    """Versions, and where the run was made."""

    python: str
    packages: dict[str, str]
    git: Git | None
    host: str
    pid: Whole
    hardware: dict[str, Any]


class Failure(TypedDict):
    """The error that ended a run."""

    type: str
    message: str
    traceback: NotRequired[str]


class StudyVersion(TypedDict):
    """What a study's file said when runs were started under it."""

    digest: str
    since: str
    file: str


class Attempt(TypedDict):
    """An earlier try of a resumed run."""

    started: str
    status: str
    finished: NotRequired[str | None]
    error: NotRequired[Failure | None]
    resumed_from_step: NotRequired[Count]


class Sections(TypedDict, total=False):
    """What is known of every run's settings: sections that tables and names are made from."""

    method: "MethodSection"
    task: "TaskSection"
    model: dict[str, Any]
    hardware: dict[str, Any]
    train: dict[str, Any]
    log: "LogSection"
    stages: dict[str, dict[str, Any]]


class MethodSection(TypedDict, total=False):
    """Settings of a method that others than the method read."""

    name: str
    router: str
    published: bool


class TaskSection(TypedDict, total=False):
    """Settings of a task that tables read."""

    name: str
    labels: list[str] | None


class LogSection(TypedDict, total=False):
    """Where a run was logged."""

    project: str
    entity: str | None


class JobFolder(TypedDict):
    """What the status of a sweep's job says of its run."""

    folder: NotRequired[str | None]


class SavedSettings(TypedDict):
    """The settings of a run as a file of their own."""

    method_class: str
    settings: dict[str, Any]
