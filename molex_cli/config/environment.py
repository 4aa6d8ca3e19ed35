"""What settings may take from environment variables: names of folders and files, W&B's entity, and never a secret."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException
from omegaconf import Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from molex_cli.config.hydra_internals import full_key, resolvers_kept
from molex_cli.errors import ConfigError
from molex_cli.records.secrets import looks_secret

SWEEP = "hydra.sweeper.params."
MAY = re.compile(
    r"(data|output|cache)_dir|model\.folder|log\.entity|hydra\..*"
    r"|(task|stages\.[^.]+)\.(files|official)\.(train|validation|test)"
)
"""Settings that say where things are on this machine; Hydra's own, which are written into no record."""
NAMES = "data_dir, output_dir, cache_dir, model.folder, task.files.*, task.official.* and log.entity"


@contextmanager
def guarded() -> Iterator[None]:
    """Raise ConfigError for every variable that a setting must not take, wherever it is resolved meanwhile."""
    refused: list[str] = []

    def variable(name: str, *default: Any, _node_: Node) -> Any:
        if problem := _problem(full_key(_node_).removeprefix(SWEEP), str(name)):
            refused.append(problem)
            raise ValueError(problem)
        return oc.env(name, *default)

    with resolvers_kept():
        OmegaConf.register_new_resolver("oc.env", variable, replace=True)
        try:
            yield
        except (HydraException, OmegaConfBaseException):
            if refused:
                raise ConfigError(dict.fromkeys(refused)) from None
            raise


def _problem(key: str, name: str) -> str | None:
    if looks_secret(name):
        return f"{key} must hold no secret, got the variable {name}; leave it out, W&B and the hub look for theirs"
    if not MAY.fullmatch(key):
        return f"{key} must be written out, got the variable {name}; only {NAMES} may name one"
    return None
