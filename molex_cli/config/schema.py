"""The root settings: what Hydra composes becomes an `Experiment`, and every problem is named at once."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from molex_cli import methods
from molex_cli.config import environment
from molex_cli.config.bounds import unusable
from molex_cli.config.paths import default_data_dir
from molex_cli.config.task import Kind, Task
from molex_cli.config.train import Train
from molex_cli.errors import ConfigError
from molex_cli.methods.allocation import allocation_of, rule_problems
from molex_cli.methods.base import METHODS, Method
from molex_cli.models.settings import MOST_PARTS, Model
from molex_cli.records.locks import Resume
from molex_cli.records.renamed import added_later, settings_of_today
from molex_cli.records.stored_text import as_stored
from molex_cli.runtime.hardware import Hardware
from molex_cli.runtime.paths import expanded

WANDB_NAME, WANDB_TAG = 128, 64  # characters of W&B's names and tags
WANDB_FORBIDDEN = "/\\#?%:"
DAY_SECONDS = 86_400
GROUPS = ("model", "method", "task", "hardware", "experiment")


class Keep(Enum):
    """Which adapters stay when a run is done."""

    both = "both"
    best = "best"
    last = "last"
    none = "none"


class Wandb(Enum):
    """Where Weights & Biases gets the run: `auto` is online with an API key, else offline."""

    auto = "auto"
    online = "online"
    offline = "offline"
    disabled = "disabled"


class LoggedRouting(Enum):
    """What W&B gets of the routing: some numbers of each layer, all of each expert and linear too, or nothing."""

    summary = "summary"
    full = "full"
    none = "none"


@dataclass(kw_only=True)
class Log:
    """Where a run logs what it does; record.json and events.jsonl are always written."""

    wandb: Wandb = Wandb.auto
    project: str = "molex"
    """W&B's project."""
    entity: str | None = None
    """W&B's team or user; null takes that of the API key."""
    tags: list[str] = field(default_factory=list)
    """Words by which W&B finds the run."""
    every: int = 1
    """Optimizer steps between two lines in events.jsonl and W&B."""
    predictions: bool = False
    """Send the last predictions to W&B as a table."""
    routing: LoggedRouting = LoggedRouting.summary
    """What W&B gets of the routing; events.jsonl has all of it always."""
    timeout: float = 30.0
    """Seconds that W&B may take to begin and to end a run; after that it is logged offline."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if self.timeout <= 0:
            yield f".timeout must be above 0, got {self.timeout}"
        if self.every < 1:
            yield f".every must be at least 1, got {self.every}"

    def wandb_problems(self) -> Iterator[str]:
        """Yield what W&B or its server would refuse when the run begins; files of before may have it all the same."""
        for name, value in (("project", self.project), ("entity", self.entity)):
            if value is not None and (len(value) > WANDB_NAME or set(value) & set(WANDB_FORBIDDEN)):
                rule = f"at most {WANDB_NAME} characters, none of them of {WANDB_FORBIDDEN}"
                yield f".{name} must be {rule}, got {value}; W&B takes no other"
        for tag in self.tags:
            if not 1 <= len(tag) <= WANDB_TAG:
                yield f".tags must have 1 to {WANDB_TAG} characters each, got {tag!r} of {len(tag)}; W&B takes no other"
        if self.timeout > DAY_SECONDS:
            yield f".timeout must be at most {DAY_SECONDS}, a day, got {self.timeout}"


class Alarm(Enum):
    """What a run does when its routers collapse: note it, mark its record as degenerate too, or stop."""

    warn = "warn"
    mark = "mark"
    stop = "stop"


@dataclass(kw_only=True)
class Collapse:
    """When routers count as collapsed onto few experts, and what is done about it."""

    action: Alarm = Alarm.mark
    below: float = 0.05
    """Least mean `utilisation` of a layer's routers: 0 where top_k experts do all, 1 where all share alike."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        if not 0 <= self.below <= 1:
            yield f".below must be from 0 to 1, got {self.below}"


@dataclass(kw_only=True)
class Experiment:
    """One run, whole."""

    model: Model = MISSING
    method: Method = MISSING
    task: Task = MISSING
    hardware: Hardware = MISSING
    stages: dict[str, Task] = field(default_factory=dict)
    """Tasks to learn one after the other, in this order; none trains `task` alone."""
    train: Train = field(default_factory=Train)
    log: Log = field(default_factory=Log)
    collapse: Collapse = field(default_factory=Collapse)
    resume: Resume = Resume.missing
    """What to do about a run that is there already: missing resumes interrupted ones and leaves those that have
    ended, failed tries failed ones again, never starts over beside them."""
    fail_fast: bool = False
    """Start no further job of a sweep after one has failed."""
    isolate: bool = True
    """Give every job of a sweep a process of its own."""
    keep: Keep = Keep.both
    """Adapters that stay when the run is done."""
    checkpoint_every: int | None = None
    """Optimizer steps between the states that a run can resume from; null takes every evaluation and five minutes."""
    preset: str | None = None
    """A paper's preset that the run began with, as its file says; `molex compare --targets` looks for it."""
    seed: int = 0
    """One seed for four streams: head and adapters, data order, dropout, routing noise."""
    data_dir: str | None = field(default_factory=default_data_dir)
    """Folder with the official files; MOLEX_DATA unless set. null reads from the hub."""
    output_dir: str = "outputs"
    """Folder of the runs."""
    cache_dir: str | None = None
    """Folder for converted models, tokens and outputs of frozen layers; MOLEX_CACHE or ~/.cache/molex unless set."""
    cache_gb: float = 10.0
    """Gigabytes that cached outputs of frozen layers may take, of all runs together; 0 computes them in each pass."""

    @property
    def learning_rate(self) -> float:
        """Return the peak learning rate: the user's, else the method's at the model's scale."""
        if self.train.learning_rate is not None:
            return self.train.learning_rate
        return self.method.learning_rate * self.model.learning_rate_scale

    @property
    def name(self) -> str:
        """Return the run's name for people: task, method, model."""
        return f"{self.task.name} {self.method.name} {self.model.name}"


@cache
def register() -> None:
    """Store the dataclasses where the YAML files of conf/ find them."""
    store = ConfigStore.instance()
    store.store(name="schema_experiment", node=Experiment, provider="molex")
    for name, node in {"model": Model, "task": Task, "hardware": Hardware}.items():
        store.store(group="schema", name=name, node=node, provider="molex")
    assert methods  # importing it registered /schema/method/*


@environment.guarded()
def resolve(config: DictConfig) -> Experiment:
    """Return the experiment that the composed settings describe; raise ConfigError with every problem."""
    if "hydra" in config or OmegaConf.get_type(config) is not Experiment:
        own = OmegaConf.create({key: value for key, value in config.items_ex(resolve=False) if key != "hydra"})
        config = OmegaConf.merge(OmegaConf.structured(Experiment), own)  # type: ignore[assignment]
    experiment = OmegaConf.to_object(config)
    assert isinstance(experiment, Experiment)
    if found := list(unusable(experiment)) or [*problems(experiment), *_new_problems(experiment)]:
        raise ConfigError(found)
    for name in ("data_dir", "output_dir", "cache_dir"):
        if path := getattr(experiment, name):
            setattr(experiment, name, str(expanded(path)))
    return experiment


def _new_problems(experiment: Experiment) -> Iterator[str]:
    """Yield what a new run must not have; files of before open all the same."""
    if allocation := allocation_of(experiment.method):
        yield from (f"method.allocation{problem}" for problem in allocation.new_problems())
    if experiment.log.wandb is not Wandb.disabled:
        yield from (f"log{problem}" for problem in experiment.log.wandb_problems())
    tasks = {"task": experiment.task, **{f"stages.{name}": stage for name, stage in experiment.stages.items()}}
    for key, task in tasks.items():
        yield from (f"{key}{problem}" for problem in (*task.label_problems(task.labels or ()), *task.file_problems()))


def problems(experiment: Experiment) -> Iterator[str]:
    """Yield what is wrong with the settings, each with its full key."""
    for section in ("model", "method", "task", "hardware", "train", "log", "collapse"):
        yield from (f"{section}{problem}" for problem in getattr(experiment, section).problems())
    for name, stage in experiment.stages.items():
        yield from (f"stages.{name}{problem}" for problem in stage.problems())
    yield from _stage_problems(experiment)
    if experiment.checkpoint_every is not None and experiment.checkpoint_every < 1:
        yield f"checkpoint_every must be at least 1, got {experiment.checkpoint_every}"
    if experiment.cache_gb < 0:
        yield f"cache_gb must be at least 0, got {experiment.cache_gb}"
    yield from _smoothing_problems(experiment)
    if experiment.method.learning_rate <= 0:
        yield f"method.learning_rate must be above 0, got {experiment.method.learning_rate}"
    if experiment.seed < 0:
        yield f"seed must be at least 0, got {experiment.seed}"
    num_layers = experiment.model.num_layers()
    is_built = num_layers is not None and 0 < num_layers <= MOST_PARTS
    if num_layers is not None and is_built and not list(experiment.method.problems()):
        allocation = allocation_of(experiment.method)
        if allocation and allocation.awaits_rule:
            yield from rule_problems(allocation, num_layers)
        else:
            yield from experiment.method.layer_problems(num_layers)


def _stage_problems(experiment: Experiment) -> Iterator[str]:
    """Yield what does not go with tasks that are learned one after the other."""
    if not experiment.stages:
        return
    if experiment.train.evaluate_every or experiment.train.evaluate_at_start:
        yield "train.evaluate_every and train.evaluate_at_start must be left out with stages, got one of them"
    if experiment.train.selection:
        yield f"train.selection must be 0 with stages, which keep their last model, got {experiment.train.selection}"
    if len(experiment.stages) == 1:
        yield f"stages must be two or more, got {next(iter(experiment.stages))} alone"
    if experiment.checkpoint_every is not None:
        yield "checkpoint_every must be left out with stages, between which the states lie, got it with " + ", ".join(
            experiment.stages
        )


def _smoothing_problems(experiment: Experiment) -> Iterator[str]:
    smoothing = experiment.train.label_smoothing
    for task in (experiment.task, *experiment.stages.values()):
        if smoothing and task.kind is Kind.regression:
            yield f"train.label_smoothing must be 0 for kind=regression, got {smoothing} with {task.name}; leave it out"


def from_data(kind: str, settings: Mapping[str, Any]) -> Experiment:
    """Return the experiment that `as_data` described; `kind` is the registered name of its method's settings."""
    if kind not in METHODS:
        raise KeyError(f"no method {kind}")
    typed = OmegaConf.structured(Experiment)
    typed.method = OmegaConf.structured(METHODS[kind])
    today = settings_of_today(settings)
    merged = OmegaConf.merge(typed, as_stored(today))
    for key, before in added_later(today):
        section, _, name = key.rpartition(".")
        parent = OmegaConf.select(merged, section) if section else merged
        if parent is not None and name in parent:
            OmegaConf.update(merged, key, before)
    experiment = OmegaConf.to_object(merged)
    assert isinstance(experiment, Experiment)
    if found := list(problems(experiment)):
        raise ConfigError(found)
    return experiment


def as_data(settings: Any) -> Any:
    """Return settings as plain data for a record: dataclasses as dicts, enums as their names."""
    return json.loads(json.dumps(dataclasses.asdict(settings), default=_enum_name))


def _enum_name(value: Any) -> str:
    assert isinstance(value, Enum)
    return value.name
