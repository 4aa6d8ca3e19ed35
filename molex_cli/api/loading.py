"""A saved run's model, from Python."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.api import asked
from molex_cli.checkpoints.hub.opening import located
from molex_cli.errors import ConfigError, nearest
from molex_cli.records.record import Record
from molex_cli.records.run_folder import adapter_of, record_beside
from molex_cli.runtime.hardware import Device, Hardware

if TYPE_CHECKING:
    from molex_cli.checkpoints.saved_run import SavedRun
    from molex_cli.config.schema import Experiment


@dataclass(frozen=True, repr=False)
class LoadedRun:
    """A run's model, as it was when its adapter was saved."""

    saved: "SavedRun"
    record: Record | None
    """None for an adapter file that lies alone."""

    @property
    def model(self) -> Any:
        """Return the model with its adapter, on its device, in evaluation mode: a transformers model like any other."""
        return self.saved.adapted.model

    @cached_property
    def tokenizer(self) -> Any:
        """Return the model's tokenizer; of a language model it pads on the left, where prompts are continued."""
        from molex_cli.models.sources import fit

        backbone = self.saved.adapted.backbone
        tokenizer = copy(backbone.tokenizer)  # that of the run stays as it was in training
        fit(tokenizer, self.model)
        if backbone.is_language_model:
            tokenizer.padding_side = "left"
        return tokenizer

    @property
    def experiment(self) -> "Experiment":
        """Return the settings of the run."""
        return self.saved.experiment

    @property
    def labels(self) -> list[str]:
        """Return the names of the labels, in the order of the head's outputs; none for a language model."""
        return self.saved.labels

    def predict(self, rows: Iterable[Mapping[str, Any] | Sequence[Any] | str]) -> list[dict[str, Any]]:
        """Return a prediction for each row, with what led to it, as `molex predict` prints them.

        A row is a dict of the task's columns, a list of their texts in order, or the text itself where there is one
        column; a DataFrame is a list of rows, too. Labels are not needed. A prediction has `row` (from 1), `prediction`
        and, of a classifier, `probabilities` by label and `logits`.
        """
        from molex_cli.checkpoints import saved_run
        from molex_cli.data.unlabelled import of_rows

        with asked():
            return saved_run.predict(self.saved, of_rows(self.experiment.task, self.labels, rows))

    def __repr__(self) -> str:
        return f"<{self.experiment.name}, seed {self.experiment.seed}, step {self.saved.step}, of {self.saved.file}>"


@asked()
def load(run: str | Path, which: str = "last", device: str | None = None) -> LoadedRun:
    """Return the model of a run, ready to use: by its folder, an adapter file in it, or `hub:USER/NAME`.

    `which` is the evaluation whose adapter is taken, last or best; `device` is cpu or cuda, by default a GPU where
    there is one. No setting needs to be given again.
    """
    path = located(fspath(run))
    adapter_of(path, which)  # what is wrong is said before seconds of loading
    settings = Hardware(device=_device(device))
    from molex_cli.checkpoints import saved_run

    opened = saved_run.opened(path, which, settings)
    opened.adapted.model.eval()
    return LoadedRun(opened, record_beside(opened.file))


def _device(name: str | None) -> Device:
    """Return the device of a name."""
    if name is None:
        return Device.auto
    if (name := str(name)) not in (known := [each.value for each in Device]):
        raise ConfigError(f"device must be one of {', '.join(known)}, got {name}; {nearest(name, known)}")
    return Device(name)
