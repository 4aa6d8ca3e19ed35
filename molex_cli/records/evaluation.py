"""What `molex eval` leaves in a run's folder, as it stands in JSON; no torch."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from molex_cli.records.parts import Count, Evaluation, Number

LANGUAGE = ("lm_eval", "text")
"""What stands as the `split` of an evaluation of a language model that is of no split of a task."""


class ScoredBy(TypedDict, total=False):
    """What a comparison must know of a metric that is not molex's own."""

    higher_is_better: bool
    mean_of_examples: bool
    """The score is the mean of the values of single examples."""
    right_or_wrong: bool
    """These are 0 and 1."""


class SplitEvaluation(TypedDict):
    """What `molex eval` leaves of one scoring of a saved run."""

    task: str
    where: dict[str, Any]
    split: str
    adapter: str
    step: Count
    perturbation: dict[str, Any] | None
    mapping: dict[str, str]
    max_length: Count
    scores: Mapping[str, Number | None]
    degenerate: list[str]
    rows: Count
    rows_used: Count
    fingerprint: str
    evaluation: Evaluation
    stderr: NotRequired[Mapping[str, Number | None]]
    """Standard errors of the scores, over examples."""
    metrics: NotRequired[dict[str, ScoredBy]]
    """Those that can be compared, where they are not molex's own; the first is compared unless another is named."""
