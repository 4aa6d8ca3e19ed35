"""Training, from Python."""

import threading

from molex_cli.api import asked, require_texts
from molex_cli.config import command_line
from molex_cli.cost.arms import Budget
from molex_cli.errors import ConfigError
from molex_cli.launching import asked as checking
from molex_cli.launching import one_run
from molex_cli.records.record import Record
from molex_cli.records.versions import as_if_typed

_one_at_a_time = threading.Lock()  # the random streams, and what Hydra composes with, belong to the process


@asked()
def train(*settings: str, match: str | None = None, solve: str = "rank", by: str = "parameters") -> Record:
    """Train, score and record one run, and return its record; `record.folder` is where it lies.

    `settings` are those of `molex train`: `train("method=lora", "task=glue/rte", "seed=1")`, with `"-cd", "DIR"` for
    YAML files of one's own. `match` is the arm whose budget is met, such as `"lora:rank=64"`, `solve` (rank, total or
    mean) what may change for that, `by` (parameters or flops) the budget.

    A run that has finished before is returned as it is, one that was interrupted is resumed. A mistake raises an
    exception of `molex_cli.errors`, before anything loads where that can be; a training that fails leaves a record and
    raises. Calls from several threads train one after the other.
    """
    require_texts(settings)
    with _one_at_a_time, as_if_typed(["train", *settings, *(Budget(match, solve, by).flags() if match else [])]):
        line = command_line.parse(settings)
        if line.multirun or line.shows:
            flag = "-m" if line.multirun else line.shows
            raise ConfigError(
                f"train must get the settings of one run, got {flag}; call it once for each, or type molex train"
            )
        found = checking.asked(line, Budget(match, solve, by) if match else None)
        if not found.is_one_run:
            launcher = found.settings.hydra.launcher._target_.rpartition(".")[2]
            raise ConfigError(f"train must run in this process, got {launcher}; type molex train instead")
        experiment = found.jobs[0].experiment
        done = one_run.finished(experiment)
        return done.record if done and done.record else one_run.trained(experiment)
