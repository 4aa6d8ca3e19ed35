"""What an experiment costs, counted on its model without weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molex_cli.config.schema import Experiment
    from molex_cli.methods.ledger import Plan


def labels_of(experiment: "Experiment") -> list[str]:
    """Return the labels that the run's head would have, from the rows where no setting names them."""
    from molex_cli.data.reading import read_labels

    task = next(iter(experiment.stages.values()), experiment.task)
    return read_labels(task, experiment.data_dir)


def planned(experiment: "Experiment", labels: Sequence[str]) -> "Plan":
    """Return what an experiment's method costs on its model, whose head has these labels."""
    from molex_cli.analysis.allocating import frozen
    from molex_cli.methods.ledger import ledger
    from molex_cli.models.loading import skeleton
    from molex_cli.objectives import head_outputs

    outputs = head_outputs(experiment.task, experiment.model, labels)
    experiment = frozen(experiment)
    adapted = experiment.method.inject(skeleton(experiment.model, outputs))
    return ledger(adapted, experiment.train.max_length)
