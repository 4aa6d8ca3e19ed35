"""One run that is asked for: the one that is there, or trained now."""

from molex_cli.config.schema import Experiment
from molex_cli.data import reading, same_run
from molex_cli.records import Record
from molex_cli.records.locks import Resume, RunLock


def finished(experiment: Experiment) -> RunLock | None:
    """Return the run if it has finished and is to be left so; no torch."""
    done = same_run.ended(experiment)
    return done if done is not None and done.record is not None and done.record.status == "finished" else None


def trained(experiment: Experiment) -> Record:
    """Train, and return the record; what failed before is tried again, and a failure raises."""
    if experiment.resume is Resume.missing:
        experiment.resume = Resume.failed
    rows = reading.read_all(experiment)  # what is wrong with them is said before seconds of loading
    from molex_cli.launching.torchrun import run_here

    return run_here(experiment, rows=rows)
