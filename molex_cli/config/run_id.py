"""Which run an experiment is, and its settings as a file that later edits do not change; no torch."""

from dataclasses import dataclass
from pathlib import Path

from molex_cli import records
from molex_cli.config import schema
from molex_cli.config.parsing import key_of
from molex_cli.methods.base import registered_name
from molex_cli.records.parts import SavedSettings
from molex_cli.records.reading import read_json


@dataclass(frozen=True)
class Job:
    """One job of a sweep."""

    values: tuple[str, ...]
    """In what it differs from the other jobs, as key=value."""
    experiment: schema.Experiment

    @property
    def arm(self) -> tuple[str, ...]:
        """Return the same without the seed: jobs that share it are seeds of one arm."""
        return tuple(value for value in self.values if key_of(value) != "seed")


def run_name(experiment: schema.Experiment) -> str:
    """Return the name of the run's folder: task, method, model, variant, seed."""
    variant = records.variant_id(schema.as_data(experiment))
    return f"{experiment.task.name}-{experiment.method.name}-{experiment.model.name}-{variant}-s{experiment.seed}"


def save_settings(path: Path, experiment: schema.Experiment) -> None:
    """Write the settings of a run."""
    content = {"method_class": registered_name(experiment.method), "settings": schema.as_data(experiment)}
    records.write_text(path, records.as_json(content))


def load_settings(path: Path) -> schema.Experiment:
    """Return the settings that `save_settings` wrote."""
    content = read_json(path, "the settings of a run", SavedSettings)
    return schema.from_data(content["method_class"], content["settings"])
