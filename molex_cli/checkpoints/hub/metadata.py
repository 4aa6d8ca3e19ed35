"""What a card tells of a run, and the part of it that the hub reads: its metadata."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molex_cli.checkpoints.hub.scores import Scored
from molex_cli.config.schema import Experiment
from molex_cli.config.task import Kind
from molex_cli.config.task_metrics import LIBRARY
from molex_cli.objectives.answer_mode import answer_mode
from molex_cli.records import Record

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w.-]+", re.ASCII)
METRIC_IDS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr", "f1_macro": "f1"}
"""The library's names of metrics that have another one there."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a card tells; record and settings are those that are sent."""

    repo: str
    revision: str | None
    which: str
    record: Record
    experiment: Experiment
    labels: Sequence[str]
    scores: Sequence[Scored]
    license: str | None = None
    for_peft: bool = False
    """Whether PEFT's files lie beside."""

    @property
    def run(self) -> str:
        """Return the name by which commands open it."""
        return f"hub:{self.repo}" + (f"@{self.revision}" if self.revision else "")


def metadata(content: Content) -> str:
    """Return the card's metadata as YAML; results only of a run whose scores mean something."""
    from huggingface_hub import ModelCardData

    experiment, rows = content.experiment, content.experiment.task.hub.path
    results = (
        []
        if content.record.degenerate
        else [_result(content, each) for each in content.scores if each.score is not None]
    )
    base = experiment.model.hub
    data = ModelCardData(
        base_model=base,
        base_model_relation="adapter" if base else None,
        library_name="molex",
        license=content.license,
        datasets=[rows] if rows and HUB_ID.fullmatch(rows) else None,
        metrics=list(dict.fromkeys(_metric_id(each) for each in content.scores)) or None,
        pipeline_tag=_pipeline(experiment),
        tags=["molex", experiment.method.name, *(["peft"] if content.for_peft else [])],
        model_name=content.repo.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _result(content: Content, scored: Scored) -> "EvalResult":
    from huggingface_hub import EvalResult

    task, split = content.experiment.task, content.record.data.get("validation", {})
    return EvalResult(
        task_type=_pipeline(content.experiment),
        dataset_type=task.hub.path or task.name,
        dataset_name=task.name,
        dataset_config=task.hub.subset,
        dataset_split="validation",
        dataset_revision=split.get("commit"),
        dataset_args={"fingerprint": split["fingerprint"]} if "fingerprint" in split else None,
        metric_type=_metric_id(scored),
        metric_name=scored.name,
        metric_value=scored.score,
    )


def _metric_id(scored: Scored) -> str:
    name = scored.metric.name.removeprefix(LIBRARY).partition("@")[0].rpartition("/")[2]
    return METRIC_IDS.get(name, name)


def _pipeline(experiment: Experiment) -> str:
    """Return what the hub calls the kind of task."""
    if answer_mode(experiment.task, experiment.model).name != "head":
        return "text-generation"
    return "multiple-choice" if experiment.task.kind is Kind.multiple_choice else "text-classification"
