"""`molex train`: a Hydra application whose command line has been checked before."""

import os
import sys
import tempfile
import traceback
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from molex_cli import records, schema
from molex_cli.cli import arguments, overrides
from molex_cli.errors import ConfigError, MolexError

# Failures of this process's jobs: kept instead of raised, so that the other jobs of a sweep run.
_failures: list[Exception] = []
_this_process = os.getpid()


def main(argv: list[str]) -> int:
    """Check the command line, then hand it to Hydra, which runs one job or a sweep."""
    line = arguments.parse(argv)
    schema.register()
    OmegaConf.register_new_resolver("molex_options", _options_line, replace=True)
    if not {"-h", "--help", "--hydra-help"} & set(line.flags):
        experiment = overrides.checked(line)
        if not {"-c", "--cfg", "-i", "--info"} & set(line.flags):
            _require_writable(experiment.output_dir)
    return application(line.argv(), str(line.config_path))


def application(argv: list[str], config_path: str, name: str = "molex train") -> int:
    """Run Hydra on these arguments, under the name that it shows."""
    # With this set Hydra leaves errors to the caller, who prints one line for a user's mistake.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [name, *argv]
    _failures.clear()
    try:
        hydra.main(version_base="1.3", config_path=config_path, config_name="config")(job)()
    except HydraException as error:
        raise ConfigError(overrides.one_line(error)) from error
    return _exit_code()


def job(config: DictConfig) -> float | None:
    """Run one job and return the score that a sweeper would optimise: the last of the first metric."""
    experiment = schema.resolve(config)
    from molex_cli.run import run

    try:
        record = run(experiment)
    except Exception as error:
        if os.getpid() != _this_process:
            raise
        _failures.append(error)
        return None
    score: float | None = record.scores["last"]["scores"][record.scores["metric"]]
    return score


def _exit_code() -> int:
    """Return 2 where the user's mistakes ended the runs; show our own with their traceback and return 1."""
    bugs = [error for error in _failures if not isinstance(error, MolexError)]
    for error in bugs:
        traceback.print_exception(error)
    return 1 if bugs else 2 if _failures else 0


def _options_line(group: str) -> str:
    return ", ".join(arguments.options(group))


def _require_writable(output_dir: str) -> None:
    """Raise before anything is loaded if the runs' folder cannot be made or written to."""
    try:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise records.unwritable(output_dir, error) from None
